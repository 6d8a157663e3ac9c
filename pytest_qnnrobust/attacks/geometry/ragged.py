"""Rows of unequal lengths in one array, each in one piece or in several."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_qnnrobust.types import Array


class Ragged:
    """Layout of n rows in an array (m,): one after the other, or in pieces.

    `lengths` int64 (n,), or (pieces, n): then all first pieces stand before all second ones; no
    piece is empty. What is computed for a row is the same whatever rows stand beside it.
    """

    def __init__(self, lengths: ArrayLike) -> None:
        self.lengths = np.atleast_2d(np.asarray(lengths, np.int64))
        self._each = self.lengths.ravel()
        self._starts = np.cumsum(self._each) - self._each
        self._row = np.arange(self.lengths.size) % len(self)

    def __len__(self) -> int:
        return int(self.lengths.shape[1])

    @property
    def owners(self) -> NDArray[np.int64]:
        """The row that each element belongs to, (m,)."""
        return np.repeat(self._row, self._each)

    def chosen(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Ragged]:
        """Indices where `mask` (m,) is true, and the layout of the rows of these elements alone.

        The first element of every piece is kept in any case.
        """
        mask[self._starts] = True
        return np.flatnonzero(mask), Ragged(self._pieces(self._counted(mask)))

    def sums(self, values: Array) -> Array:
        """(m,) -> (n,), in the precision of `values`."""
        return np.asarray(self._pieces(np.add.reduceat(values, self._starts)).sum(axis=0))

    def counts(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Number of true elements in each row, (m,) -> (n,)."""
        return np.asarray(self._pieces(self._counted(mask)).sum(axis=0, dtype=np.int32))

    def largest(self, values: Array) -> Array:
        """(m,) -> (n,)."""
        return np.asarray(self._pieces(np.maximum.reduceat(values, self._starts)).max(axis=0))

    def repeated(self, values: Array) -> Array:
        """The value of its row for every element, (n,) -> (m,)."""
        return np.repeat(values[self._row], self._each)

    def _counted(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        return np.asarray(np.add.reduceat(mask, self._starts, dtype=np.int32))

    def _pieces(self, values: Array) -> Array:
        return values.reshape(self.lengths.shape)
