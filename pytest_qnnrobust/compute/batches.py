"""Batch sizes that are traced and compiled once, and how any other batch is made of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.processors import thread_count, thread_pool

CHUNK = 256
"""Samples that a model computes at once: larger batches are cut, so memory does not grow with N."""

BUCKETS = (16, 32, 64, 128, CHUNK)
"""Batch sizes of a float network."""

CALL = 8
"""Cost of one more call, in samples of padding that it has to save."""


def bucket(n: int, buckets: tuple[int, ...] = BUCKETS) -> int:
    """The smallest bucket that holds n samples, or the next multiple of the largest."""
    for size in buckets:
        if n <= size:
            return size
    return -(-n // buckets[-1]) * buckets[-1]


def pieces(n: int, buckets: tuple[int, ...] = BUCKETS) -> list[tuple[slice, int]]:
    """Slices of n samples and the bucket that each is computed in, with little padding.

    77 samples are 64 and 13 in a bucket of 16, not one bucket of 128 that is half empty.
    """
    sizes = _cover(n, buckets)
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    ends = [min(start + size, n) for start, size in zip(starts, sizes, strict=True)]
    return [(slice(*rows), size) for *rows, size in zip(starts, ends, sizes, strict=True)]


def side_by_side(
    run: Callable[[slice, int], list[NDArray[Any]]],
    n: int,
    buckets: tuple[int, ...] = BUCKETS,
    least: int = 1,
) -> list[NDArray[Any]]:
    """Call `run(rows, size)` for slices that cover n samples; return its arrays, joined.

    Every thread has a share of the samples, of at least `least`, cut into `pieces`: many kernels
    of TensorFlow use one thread only.
    """
    share = max(-(-n // thread_count()), least, 1)
    # An empty batch is one slice as well: it is run, so that its results have their shapes.
    cut = [
        (slice(start + rows.start, start + rows.stop), size)
        for start in range(0, max(n, 1), share)
        for rows, size in pieces(min(share, max(n, 1) - start), buckets)
    ]
    if len(cut) == 1:
        return run(*cut[0])
    parts = list(thread_pool().map(run, *zip(*cut, strict=True)))
    return [np.concatenate(results) for results in zip(*parts, strict=True)]


@lru_cache(maxsize=4096)
def _cover(n: int, buckets: tuple[int, ...]) -> tuple[int, ...]:
    """Buckets that hold n samples between them, all full but the last."""
    if n > buckets[-1]:
        return (buckets[-1], *_cover(n - buckets[-1], buckets))
    # Either one bucket holds all, or one is filled and the rest is covered in turn.
    ways: list[tuple[int, ...]] = [(bucket(n, buckets),)]
    ways += [(size, *_cover(n - size, buckets)) for size in reversed(buckets) if size < n]
    return min(ways, key=lambda way: sum(way) + CALL * len(way))


def pad(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeat the last row until there are `size` rows."""
    missing = size - len(array)
    if missing == 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
