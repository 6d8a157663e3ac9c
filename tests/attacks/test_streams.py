"""A sample's random numbers depend on its own requests only."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from pytest_qnnrobust.attacks.streams import BLOCK, Streams


def script(streams: Streams, rows: np.ndarray) -> np.ndarray:
    """A mixture of draws, small, larger than a block and normal."""
    parts = [streams.uniform(rows, 5)]
    parts += [streams.signs(rows, 2, 3).reshape(len(rows), -1) for _ in range(200)]
    parts += [streams.uniform(rows, BLOCK + 1), streams.normal(rows, 3)]
    parts += [streams.integers(rows, 7)[:, None] for _ in range(BLOCK)]
    return np.concatenate(parts, axis=1)


def test_a_stream_is_the_same_alone_and_in_company():
    together = script(Streams(3, [5, 6, 7]), np.arange(3))
    for position, index in enumerate([5, 6, 7]):
        np.testing.assert_array_equal(
            script(Streams(3, [index]), np.arange(1))[0], together[position]
        )


def test_other_samples_may_draw_in_between():
    streams = Streams(0, [0, 1])
    first = streams.uniform(np.array([0]), 4)
    for _ in range(300):
        streams.uniform(np.array([1]), 9)
    second = streams.uniform(np.array([0]), 4)
    alone = Streams(0, [0])
    np.testing.assert_array_equal(first, alone.uniform(np.array([0]), 4))
    np.testing.assert_array_equal(second, alone.uniform(np.array([0]), 4))


def test_streams_of_two_seeds_or_samples_differ():
    draws = [Streams(s, [i]).uniform(np.array([0]), 8)[0] for s in (0, 1) for i in (0, 1)]
    assert len({tuple(draw) for draw in draws}) == 4


def test_numbers_have_the_right_range():
    streams = Streams(0, range(50))
    rows = np.arange(50)
    assert set(np.unique(streams.signs(rows, 20))) == {-1.0, 1.0}
    numbers = np.concatenate([streams.integers(rows, 4) for _ in range(20)])
    assert set(numbers) == {0, 1, 2, 3}
    normal = streams.normal(rows, 400)
    assert normal.dtype == np.float32
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9, 0.9999])
def test_normal_numbers_have_the_quantiles_of_the_normal_distribution(share):
    normal = Streams(1, range(40)).normal(np.arange(40), 25_000)
    expected = scipy.stats.norm.cdf(np.quantile(normal, share))
    assert expected == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 1e6))


def test_a_part_goes_on_where_the_stream_stands_and_gives_it_back():
    streams = Streams(4, [8, 9, 10])
    streams.uniform(np.array([0, 1, 2]), 3)
    part = streams.part(np.array([2, 0]))
    drawn = part.uniform(np.arange(2), 6)
    alone = Streams(4, [8])
    alone.uniform(np.array([0]), 3)
    np.testing.assert_array_equal(alone.part(np.array([0])).uniform(np.array([0]), 6)[0], drawn[1])
    after = streams.normal(np.array([0]), 4)
    np.testing.assert_array_equal(alone.normal(np.array([0]), 4), after)
