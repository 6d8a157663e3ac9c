"""Curves and images of the page, without a file or a font of their own."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.statistics import paired

COLOURS = {"float32": "#1b6ca8", "int16": "#d1793f", "int8": "#3d8c40"}
POINTS = 60


def pyplot() -> Any:
    """Import matplotlib's pyplot, set to draw into files only."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def distance_curve(name: str, outcomes: Sequence[Outcome]) -> str:
    """Draw as SVG, by width, the share of samples that stay right up to each L2 distance.

    It is as wide as its place on the page; its colours are the page's: that of the text, and the
    CSS variables `--float32`, `--int16` and `--int8`.
    """
    plt = pyplot()
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 8}
    reach = max(_reach(outcome) for outcome in outcomes)
    sizes = np.linspace(0, reach if reach > 0 else 1.0, POINTS)
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(3.6, 2.4))
        for outcome in outcomes:
            share, low, high = _survivors(outcome, sizes)
            colour = COLOURS[outcome.width]
            axes.plot(sizes, share, color=colour, lw=1.3, label=outcome.width)
            axes.fill_between(sizes, low, high, color=colour, alpha=0.15, lw=0)
        axes.set(xlabel="L2 distance, input units", ylabel="right, %", title=name, ylim=(0, 102))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
        stream = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(
            stream, format="svg", bbox_inches="tight", metadata=metadata, transparent=True
        )
        plt.close(figure)
    text = stream.getvalue()
    return _in_the_page(text[text.index("<svg") :])


def _in_the_page(svg: str) -> str:
    """The drawing without a size and colours of its own."""
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for width, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{width})")
    return svg.replace("#000000", "currentColor")


def _reach(outcome: Outcome) -> float:
    """The L2 distance to which a curve is drawn; a few far examples must not flatten the rest."""
    distances = outcome.l2[outcome.fooled]
    return float(np.quantile(distances, 0.98)) if len(distances) else 0.0


def _survivors(outcome: Outcome, sizes: NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """Percent of the samples right at each L2 distance of `sizes`, and the ends of its interval."""
    nearest = np.where(outcome.fooled, outcome.l2, np.inf)
    nearest = np.where(outcome.clean_correct, nearest, -1.0)
    right = (nearest[None, :] > sizes[:, None]).sum(axis=1)
    intervals = [paired.proportion_interval(int(n), len(outcome)) for n in right]
    share = 100 * right / max(len(outcome), 1)
    return share, *([100 * getattr(i, end) for i in intervals] for end in ("low", "high"))


def png(image: NDArray[np.uint8]) -> str:
    """Encode an image, uint8 (h, w) or (h, w, 3), as PNG in base64."""
    from matplotlib import image as images

    stream = io.BytesIO()
    shown = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    images.imsave(stream, shown, format="png", metadata={"Software": ""})
    return base64.b64encode(stream.getvalue()).decode()


def triplet(clean: NDArray[np.uint8], adversarial: NDArray[np.uint8]) -> tuple[list[str], int]:
    """PNGs of clean image, perturbation around grey and adversarial image, and how many times the
    perturbation is magnified.
    """
    moved = adversarial.astype(np.int64) - clean
    reach = int(np.abs(moved).max(initial=0))
    magnified = max(1, min(100, 127 // reach)) if reach else 1
    grey = np.clip(128 + magnified * moved, 0, 255).astype(np.uint8)
    return [png(clean), png(grey), png(adversarial)], magnified
