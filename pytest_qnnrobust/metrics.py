"""Distances between images and accuracy under attack, in the conventions of the literature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected

Distance = NDArray[np.float64]
Mask = NDArray[np.bool_]

NORMS: tuple[float, ...] = (0.0, 1.0, 2.0, np.inf)


@dataclass(frozen=True, eq=False)
class Distances:
    """Four distances of each sample, float64 (N,), in model units.

    `l0` counts the elements (pixel x channel) that changed.
    """

    l0: Distance
    l1: Distance
    l2: Distance
    linf: Distance


def norm_name(norm: float) -> str:
    """The name of a norm: `l0`, `l1`, `l2` or `linf`."""
    return "linf" if np.isinf(norm) else f"l{norm:g}"


def flat(x: NDArray[Any]) -> NDArray[Any]:
    """Samples (N, ...) as rows (N, elements); N may be 0."""
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def lp_norm(delta: NDArray[Any], norm: float) -> Distance:
    """The L0, L1, L2 or Linf norm of each sample of `delta` (N, ...), float64 (N,).

    Raises QnnRobustError for another norm.
    """
    if norm not in NORMS:
        raise expected("norm to be one of 0, 1, 2, inf", norm=norm)
    rows = flat(np.asarray(delta, np.float64))
    return _row_norm(rows if norm == 2 else np.abs(rows), norm)


def _row_norm(size: NDArray[np.float64], norm: float) -> Distance:
    """The norm of each row of absolute values (N, elements), the same in any batch."""
    if norm == 0:
        return np.asarray(np.count_nonzero(size, axis=1), np.float64)
    if norm == 1:
        return np.asarray(size.sum(axis=1))
    if norm == 2:
        return np.asarray(np.sqrt(np.matmul(size[:, None, :], size[:, :, None])[:, 0, 0]))
    return np.asarray(size.max(axis=1, initial=0.0))


def distances(x_adv: NDArray[Any], x: NDArray[Any]) -> Distances:
    """All four distances between two sets of samples (N, ...), computed in float64.

    Raises QnnRobustError where their shapes differ.
    """
    x_adv, x = np.asarray(x_adv), np.asarray(x)
    if x_adv.shape != x.shape:
        raise expected("two arrays of one shape", x_adv=x_adv.shape, x=x.shape)
    return delta_distances(x_adv.astype(np.float64) - x.astype(np.float64))


def delta_distances(delta: NDArray[np.float64]) -> Distances:
    """The four norms of a perturbation (N, ...)."""
    size = np.abs(flat(delta))
    return Distances(*(_row_norm(size, norm) for norm in NORMS))


def adversarial_accuracy(
    y: NDArray[Any],
    clean_label: NDArray[Any],
    adv_label: NDArray[Any],
    *,
    among: Literal["all", "correct"] = "all",
) -> float:
    """The share of samples that are still classified as `y` under attack.

    The three arrays hold classes, (N,): the true ones, those without and those under attack.
    `among="all"` divides by every sample, so that clean errors count against the model: the
    convention of RobustBench and of the figures of "David and Goliath". `among="correct"` divides
    by the samples that were right before the attack: one minus the attack's success rate.
    NaN where there is nothing to divide by. Raises QnnRobustError for arrays of different shapes.
    """
    correct, withstood = _right(y, clean_label, adv_label)
    return _share(correct & withstood, correct, among)


def evasion_rate(
    y: NDArray[Any],
    clean_label: NDArray[Any],
    adv_label: NDArray[Any],
    *,
    among: Literal["all", "correct"] = "correct",
) -> float:
    """The share of samples that were right before the attack and are wrong under it.

    `among="correct"` divides by those that were right, the convention of "On Adversarial
    Robustness of Quantized Neural Networks Against Direct Attacks", which attacks no others;
    `among="all"` by every sample. NaN where there is nothing to divide by.
    """
    correct, withstood = _right(y, clean_label, adv_label)
    return _share(correct & ~withstood, correct, among)


def _right(
    y: NDArray[Any], clean_label: NDArray[Any], adv_label: NDArray[Any]
) -> tuple[Mask, Mask]:
    """Whether each sample is right before the attack, and under it."""
    y, clean_label, adv_label = (np.asarray(a) for a in (y, clean_label, adv_label))
    if not y.shape == clean_label.shape == adv_label.shape:
        shapes = (y.shape, clean_label.shape, adv_label.shape)
        raise expected("three label arrays of one shape", shapes=shapes)
    return np.asarray(clean_label == y), np.asarray(adv_label == y)


def _share(counted: Mask, correct: Mask, among: str) -> float:
    if among not in ("all", "correct"):
        raise expected("among to be 'all' or 'correct'", among=among)
    total = len(correct) if among == "all" else int(correct.sum())
    return float(counted.sum() / total) if total else float("nan")


def mean_distance(
    distance: NDArray[Any],
    success: NDArray[Any],
    *,
    over: Literal["all", "successes"] = "successes",
) -> float:
    """The mean of a distance (N,) over the samples with `success`, bool (N,), or over all of them.

    NaN where there is no sample to average.
    """
    if over not in ("all", "successes"):
        raise expected("over to be 'all' or 'successes'", over=over)
    averaged = np.asarray(distance, np.float64)
    if over == "successes":
        averaged = averaged[np.asarray(success, bool)]
    return float(averaged.mean()) if len(averaged) else float("nan")
