"""Batches are cut into sizes that are compiled already."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_qnnrobust.compute import batches, processors

BUCKETS = st.sampled_from([batches.BUCKETS, (8, 32, 64, 128), (1, 16)])


@given(st.integers(1, 1500), BUCKETS)
def test_pieces_hold_every_sample_once_in_a_known_size(n, buckets):
    found = batches.pieces(n, buckets)
    rows = np.concatenate([np.arange(n)[rows] for rows, _ in found])
    np.testing.assert_array_equal(rows, np.arange(n))
    assert all(0 < rows.stop - rows.start <= size for rows, size in found)
    assert all(rows.stop - rows.start == size for rows, size in found[:-1])
    assert {size for _, size in found} <= set(buckets)


@given(st.integers(1, 1500), BUCKETS)
def test_pieces_never_cost_more_than_one_padded_bucket(n, buckets):
    computed = sum(size + batches.CALL for _, size in batches.pieces(n, buckets))
    whole = -(-n // buckets[-1])
    assert computed <= batches.bucket(n, buckets) + whole * batches.CALL


@pytest.mark.parametrize(
    ("n", "sizes"), [(256, [256]), (77, [64, 16]), (153, [128, 32]), (9, [16])]
)
def test_little_is_padded(n, sizes):
    assert [size for _, size in batches.pieces(n)] == sizes


def test_the_next_larger_bucket():
    assert [batches.bucket(n) for n in (1, 16, 17, 256, 257)] == [16, 16, 32, 256, 512]


def test_padding_repeats_the_last_row():
    array = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(batches.pad(array, 5), array[[0, 1, 2, 2, 2]])
    assert batches.pad(array, 3) is array


def test_products_use_one_thread_for_a_while():
    import threadpoolctl

    def threads():
        found = threadpoolctl.threadpool_info()
        return [library["num_threads"] for library in found if library["user_api"] == "blas"]

    before = threads()
    with processors.one_blas_thread():
        assert set(threads()) <= {1}
    assert threads() == before
