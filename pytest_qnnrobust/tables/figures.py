"""Figure 1, the tables as dots beside the published ones, and images with what was done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.report.drawings import COLOURS, pyplot
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.tables.cells import TITLES
from pytest_qnnrobust.tables.render import Row, attack_of, by_defence, title
from pytest_qnnrobust.types import WIDTHS

DOTS_PER_INCH = 130


@dataclass(frozen=True)
class Curve:
    """Whether one width was right under transferred examples of each mean Linf distance."""

    width: str
    linf: NDArray[np.float64]
    right: list[NDArray[np.bool_]]


@dataclass(frozen=True)
class Triplet:
    """A clean image and its adversarial version, of each width, with the labels that it was given.

    Images are (h, w) or (h, w, c) in 0..1.
    """

    clean: NDArray[np.float32]
    adversarial: Mapping[str, NDArray[np.float32]]
    labels: Mapping[str, tuple[int, int]]


def figure_1(path: Path, curves: Sequence[Curve]) -> None:
    """Draw the accuracy of each width against the distance of the float network's PGD examples."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.4, 4))
    for curve in curves:
        points = [paired.proportion_interval(int(r.sum()), len(r)) for r in curve.right]
        accuracy = [100 * float(r.mean()) for r in curve.right]
        low, high = ([100 * getattr(p, end) for p in points] for end in ("low", "high"))
        colour = COLOURS[curve.width]
        axes.plot(curve.linf, accuracy, marker="o", ms=3.5, color=colour, label=curve.width)
        axes.fill_between(curve.linf, low, high, color=colour, alpha=0.15, lw=0)
    axes.set(
        xlabel="mean Linf distance of the PGD examples, model input units",
        ylabel="accuracy, % (band: 95 % interval)",
        title="Figure 1: PGD examples for float32, transferred",
        ylim=(0, 102),
    )
    axes.legend(frameon=False)
    _save(figure, axes, path)


def dots(path: Path, rows: Sequence[Row]) -> None:
    """Draw a table's accuracies as dots with their intervals, the published ones as crosses."""
    plt = pyplot()
    parts = by_defence(rows)
    heights = [len({_line(row) for row in part}) for _, part in parts]
    figure, grid = plt.subplots(
        len(parts), 1, figsize=(7, 0.42 * sum(heights) + 0.8 * len(parts) + 0.6), squeeze=False,
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for axes, (defence, part) in zip(grid[:, 0], parts, strict=True):
        lines = list(dict.fromkeys(_line(row) for row in part))
        for row in part:
            _dot(axes, row, lines.index(_line(row)))
        axes.set(yticks=range(len(lines)), yticklabels=lines, xlim=(-2, 102))
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
        if defence != "none":
            axes.set_title(defence, loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    table = rows[0].measured.cell.table
    grid[-1, 0].set_xlabel("accuracy, % (dot: measured with 95 % interval, cross: published)")
    figure.suptitle(f"{title(table)}: {TITLES[table]}", fontsize=10)
    handles = [plt.Line2D([], [], marker="o", ls="", color=COLOURS[w], label=w) for w in WIDTHS]
    figure.legend(handles=handles, ncols=3, frameon=False, fontsize=8, loc="outside lower right")
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def triplets(path: Path, images: Sequence[Triplet], heading: str) -> None:
    """Draw a row for each image: clean, then perturbation and adversarial image for each width.

    Perturbations are shown around grey, all magnified alike.
    """
    plt = pyplot()
    magnified = _magnification(images)
    widths = list(images[0].adversarial)
    columns = 1 + 2 * len(widths)
    figure, grid = plt.subplots(
        len(images), columns, figsize=(1.25 * columns, 1.4 * len(images) + 0.4), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, image in zip(grid, images, strict=True):
        first = image.labels[widths[0]][0]
        _show(axes[0], image.clean, f"clean: {first}")
        for place, width in enumerate(widths):
            moved = image.adversarial[width]
            grey = 0.5 + magnified * (moved.astype(np.float64) - image.clean)
            distance = float(np.sqrt(np.square(moved.astype(np.float64) - image.clean).sum()))
            _show(axes[1 + 2 * place], np.clip(grey, 0, 1), f"L2 {distance:.3g}")
            _show(axes[2 + 2 * place], moved, f"{width}: {image.labels[width][1]}")
    figure.suptitle(f"{heading}; perturbations {magnified:g} times around grey", fontsize=9)
    figure.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(figure)


def _magnification(images: Sequence[Triplet]) -> float:
    """Factor, of one digit, that brings 99 % of the perturbations to the whole grey scale."""
    moved = [
        np.abs(a - image.clean).ravel() for image in images for a in image.adversarial.values()
    ]
    reach = float(np.quantile(np.concatenate(moved), 0.99))
    return float(f"{max(0.5 / reach, 1):.1g}") if reach > 0 else 1.0


def _dot(axes: Any, row: Row, line: int) -> None:
    measured, cell = row.measured, row.measured.cell
    y = line + 0.22 * (WIDTHS.index(cell.width) - 1)
    colour = COLOURS[cell.width]
    low, high = measured.interval.low, measured.interval.high
    errors = [[measured.accuracy - low], [high - measured.accuracy]]
    axes.errorbar([measured.accuracy], [y], xerr=errors, fmt="o", ms=4, color=colour, lw=1)
    if row.published is not None:
        axes.plot([row.published.accuracy], [y], "x", ms=5, color=colour, alpha=0.8)
        ends = [measured.accuracy, row.published.accuracy]
        axes.plot(ends, [y, y], color=colour, alpha=0.25, lw=1)


def _line(row: Row) -> str:
    return attack_of(row).replace(" (", "\n(") or "clean"


def _show(axes: Any, image: NDArray[Any], caption: str) -> None:
    flat = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    axes.imshow(flat, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    axes.set_title(caption, fontsize=7, pad=2)
    axes.set_axis_off()


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
    pyplot().close(figure)
