"""Rows in one array, in one piece or several, against each row alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.attacks.geometry.ragged import Ragged
from tests.helpers.examples import examples


@st.composite
def ragged(draw):
    """Lengths of rows, (n,) or (pieces, n), and the elements of each row."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pieces, rows = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    lengths = rng.integers(1, 30, (pieces, rows))
    cut = np.split(rng.normal(size=lengths.sum()), np.cumsum(lengths)[:-1])
    if pieces == 1 and draw(st.booleans()):
        lengths = lengths[0]
    return lengths, np.concatenate(cut), [np.concatenate(cut[row::rows]) for row in range(rows)]


@settings(max_examples=examples(100), deadline=None)
@given(case=ragged())
def test_sums_counts_and_maxima_are_those_of_each_row(case):
    lengths, values, rows = case
    shape = Ragged(lengths)
    assert len(shape) == len(rows)
    np.testing.assert_allclose(shape.sums(values), [row.sum() for row in rows], atol=1e-12)
    np.testing.assert_array_equal(shape.counts(values > 0), [(row > 0).sum() for row in rows])
    np.testing.assert_array_equal(shape.largest(values), [row.max() for row in rows])


@settings(max_examples=examples(100), deadline=None)
@given(case=ragged())
def test_every_element_gets_the_value_of_its_row(case):
    lengths, values, rows = case
    shape = Ragged(lengths)
    own = shape.repeated(np.arange(len(rows)) * 10.0)
    np.testing.assert_array_equal(own, shape.owners * 10)
    for row, elements in enumerate(rows):
        np.testing.assert_array_equal(values[shape.owners == row], elements)


@settings(max_examples=examples(100), deadline=None)
@given(case=ragged())
def test_what_is_chosen_keeps_its_row(case):
    lengths, values, _ = case
    shape = Ragged(lengths)
    firsts = np.cumsum(np.ravel(lengths)) - np.ravel(lengths)
    wanted = (values > 0.5) | np.isin(np.arange(len(values)), firsts)
    kept, left = shape.chosen(values > 0.5)
    np.testing.assert_array_equal(kept, np.flatnonzero(wanted))
    np.testing.assert_array_equal(left.owners, shape.owners[kept])
    assert left.lengths.shape == shape.lengths.shape
