"""Batch sizes that are traced and compiled once, and how any other batch is made of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUCKETS = (16, 32, 64, 128, 256)
"""Batch sizes of a float network."""

CALL = 8
"""What one more call costs, in samples of padding that it has to save."""


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


@lru_cache(maxsize=4096)
def _cover(n: int, buckets: tuple[int, ...]) -> tuple[int, ...]:
    """Buckets that hold n samples between them, all full but the last."""
    if n > buckets[-1]:
        return (buckets[-1], *_cover(n - buckets[-1], buckets))
    ways: list[tuple[int, ...]] = [(bucket(n, buckets),)]
    ways += [(size, *_cover(n - size, buckets)) for size in reversed(buckets) if size < n]
    return min(ways, key=lambda way: sum(way) + CALL * len(way))


def pad(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeat the last row until there are `size` rows."""
    missing = size - len(array)
    if missing == 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
