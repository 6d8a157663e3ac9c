"""Feature squeezing: against ART and scipy, its laws, its integers, its gradient, its cost."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.defenses import Cost, FeatureSqueezing
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.grid import InputGrid

UNIT = (0.0, 1.0)
INT8 = InputGrid(1 / 255, -128, "int8")
INT16 = InputGrid(1 / 32767, 0, "int16")
SHAPES = st.sampled_from([(6, 5, 3), (4, 7), (9,), (1, 4, 1)])

BAD = [
    ({"bit_depth": 0}, "expected bit_depth to be None or an integer in [1, 15], got bit_depth=0"),
    ({"bit_depth": 16}, "got bit_depth=16"),
    ({"bit_depth": 4.0}, "got bit_depth=4.0"),
    ({"bit_depth": True}, "got bit_depth=True"),
    ({"window": 0}, "expected window to be an integer >= 1, got window=0"),
    ({"window": 1.5}, "got window=1.5"),
]


@pytest.mark.parametrize(("setting", "text"), BAD)
def test_a_bad_setting_is_one_clear_line(setting, text):
    with pytest.raises(QnnRobustError, match=re.escape(text)) as caught:
        FeatureSqueezing(**setting)
    assert "\n" not in str(caught.value)


def images(n=4, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).random((n, *shape)).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_colour_depth_is_arts(bits):
    art = pytest.importorskip("art.defences.preprocessor")
    x = images()
    theirs, _ = art.FeatureSqueezing(clip_values=UNIT, bit_depth=bits)(x)
    np.testing.assert_allclose(FeatureSqueezing(bits, 1)(x, UNIT), theirs, atol=1e-7)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_the_window_is_arts(window):
    art = pytest.importorskip("art.defences.preprocessor")
    x = images()
    theirs, _ = art.SpatialSmoothing(window_size=window, channels_first=False)(x)
    np.testing.assert_array_equal(FeatureSqueezing(None, window)(x, UNIT), theirs)


@pytest.mark.parametrize("grid", [INT8, INT16], ids=["int8", "int16"])
@given(
    shape=SHAPES,
    bits=st.none() | st.integers(1, 15),
    window=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_integers_and_real_values_agree(grid, shape, bits, window, seed):
    """The integers are what the real-valued defence gives, rounded to the grid."""
    if bits is not None and grid is INT8:
        bits = min(bits, 8)
    low, high = (int(end) for end in grid.quantize(np.array(UNIT, np.float32)))
    q = np.random.default_rng(seed).integers(low, high + 1, (3, *shape)).astype(grid.dtype)
    defense = FeatureSqueezing(bits, window)
    squeezed = defense.squeeze_quantized(q, UNIT, grid)
    assert squeezed.dtype == q.dtype
    real = defense(grid.dequantize(q).astype(np.float64), UNIT)
    assert np.abs(squeezed - (real / grid.scale + grid.zero_point)).max() <= 0.5 + 1e-2
    np.testing.assert_array_equal(
        defense(grid.dequantize(q), UNIT, grid), grid.dequantize(squeezed)
    )


@given(shape=SHAPES, bits=st.integers(1, 8), window=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_laws(shape, bits, window, seed):
    generator = np.random.default_rng(seed)
    q = generator.integers(-128, 128, (3, *shape)).astype(np.int8)
    depth, median = FeatureSqueezing(bits, 1), FeatureSqueezing(None, window)

    def run(defense, values):
        return defense.squeeze_quantized(values, UNIT, INT8)

    both = run(FeatureSqueezing(bits, window), q)
    np.testing.assert_array_equal(both, run(depth, run(median, q)))
    np.testing.assert_array_equal(run(depth, run(depth, q)), run(depth, q))
    assert len(np.unique(run(depth, q))) <= 2**bits
    assert set(np.unique(run(median, q))) <= set(np.unique(q))
    more = np.maximum(q, generator.integers(-128, 128, q.shape).astype(np.int8))
    assert (run(FeatureSqueezing(bits, window), more) >= both).all()
    order = generator.permutation(len(q))
    np.testing.assert_array_equal(run(FeatureSqueezing(bits, window), q[order]), both[order])


def test_eight_bits_of_an_int8_input_change_nothing():
    q = np.arange(-128, 128, dtype=np.int8)[None]
    np.testing.assert_array_equal(FeatureSqueezing(8, 1).squeeze_quantized(q, UNIT, INT8), q)


def test_an_int8_level_is_a_division_away():
    """Four bits of 256: multiples of 17, the nearest one."""
    pixel = np.arange(256)
    q = (pixel - 128).astype(np.int8)[None]
    expected = (pixel + 8) // 17 * 17 - 128
    squeezed = FeatureSqueezing(4, 1).squeeze_quantized(q, UNIT, INT8)
    np.testing.assert_array_equal(squeezed[0], expected)


@given(shape=SHAPES, window=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_the_gradient_goes_to_the_element_that_the_median_took(shape, window, seed):
    """Against a difference quotient: distinct elements move without changing places."""
    generator = np.random.default_rng(seed)
    size = int(np.prod(shape))
    x = generator.permutation(size).reshape(1, *shape).astype(np.float32) / size
    weights = generator.normal(size=(1, *shape)).astype(np.float32)
    defense = FeatureSqueezing(None, window)
    gradient = defense.backward(x, weights, UNIT, None)
    step = 0.25 / size
    for place in range(size):
        moved = x.astype(np.float64).copy()
        moved.flat[place] += step
        rise = ((defense._median(moved) - defense._median(x.astype(np.float64))) * weights).sum()
        assert gradient.flat[place] == pytest.approx(rise / step, abs=1e-4)


def test_the_median_is_scipys_upper_one():
    x = np.array([[[0.0, 1.0, 2.0, 3.0]]], np.float32).reshape(1, 4)
    squeezed = FeatureSqueezing(None, 2)(x, (0.0, 3.0))
    expected = scipy.ndimage.median_filter(x, size=(1, 2), mode="reflect")
    np.testing.assert_array_equal(squeezed, expected)


def test_the_cost_is_counted():
    int8 = FeatureSqueezing(4, 1).cost((32, 32, 3), "int8")
    assert int8 == Cost(operations=3072, ram_bytes=0, flash_bytes=256)
    int16 = FeatureSqueezing(4, 1).cost((32, 32, 3), "int16")
    assert int16 == Cost(operations=3 * 3072, ram_bytes=0, flash_bytes=0)
    # Of 4 elements the third smallest: 3 + 2 + 1 comparisons.
    window = FeatureSqueezing(None, 2).cost((32, 32, 3), "int8")
    assert window == Cost(operations=6 * 3072, ram_bytes=2 * 96)
    both = FeatureSqueezing(4, 2).cost((32, 32, 3), "int8")
    assert both == int8 + window
    assert str(both) == "21,504 operations, 192 bytes of RAM, 256 bytes of flash"
