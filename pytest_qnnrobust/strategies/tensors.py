"""Float tensors that probe a quantization: where a rounding or a saturation may go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.strategies.arguments import check_range
from pytest_qnnrobust.strategies.draws import Draw
from pytest_qnnrobust.strategies.parameters import AffineParameters

SMALLEST = float(np.float32(2.0**-149))
"""The smallest subnormal float32."""
SUBNORMAL = float(np.float32(2.0**-126 - 2.0**-149))
"""The largest subnormal float32."""
LARGEST = float(np.finfo(np.float32).max)
ZEROS = (0.0, -0.0, SMALLEST, -SMALLEST, SUBNORMAL, -SUBNORMAL)


def probing_values(
    scale: float, zero_point: int, minimum: int, maximum: int, *, saturated: bool = True
) -> st.SearchStrategy[float]:
    """float32 values around an affine grid, simplest first.

    Draws grid points; half-way points, exact where float32 has them, and their neighbours on both
    sides; signed zeros and subnormals; any value within two steps of the range `minimum`..`maximum`
    of codes; and with `saturated` values far beyond it. Raises QnnRobustError for a scale that is
    not positive and finite, and for a zero point out of the range.
    """
    if not (scale > 0 and np.isfinite(scale)):
        raise expected("a positive, finite scale", scale=scale)
    if not minimum <= zero_point <= maximum:
        raise expected(f"a zero point in {minimum} .. {maximum}", zero_point=zero_point)
    steps = st.integers(minimum - zero_point, maximum - zero_point)
    edges = st.integers(minimum - zero_point - 1, maximum - zero_point)

    def halfway(step: int, side: int) -> float:
        edge = np.float32((step + 0.5) * scale)
        return _nudged(edge, side)

    low, high = (float(np.float32((q - zero_point) * scale)) for q in (minimum - 2, maximum + 2))
    kinds = [
        steps.map(lambda step: float(np.float32(step * scale))),
        st.builds(halfway, edges, st.sampled_from((0, -1, 1))),
        st.sampled_from(ZEROS),
        st.floats(low, high, width=32),
    ]
    if saturated:
        kinds.append(st.sampled_from((LARGEST, -LARGEST)))
        kinds.append(st.sampled_from((low, high)).map(lambda end: float(np.float32(end * 1.5))))
    return st.one_of(kinds)


@st.composite
def _tensors(
    draw: Draw, parameters: AffineParameters, shape: Any, saturated: bool
) -> NDArray[np.float32]:
    sizes = draw(shape) if isinstance(shape, st.SearchStrategy) else tuple(shape)
    axis, channels = parameters.quantized_dimension, len(parameters.scale)
    if axis is not None:
        sizes = (*sizes[:axis], channels, *sizes[axis + 1 :])
    values = [
        probing_values(s, z, parameters.minimum, parameters.maximum, saturated=saturated)
        for s, z in zip(parameters.scale, parameters.zero_point, strict=True)
    ]
    channel = np.zeros(sizes, np.int64) if axis is None else np.indices(sizes)[axis]
    drawn = [draw(values[index]) for index in channel.reshape(-1)]
    return np.array(drawn, np.float32).reshape(sizes)


def probing_tensors(
    parameters: AffineParameters,
    *,
    shape: tuple[int, ...] | st.SearchStrategy[tuple[int, ...]] | None = None,
    saturated: bool = True,
    max_values: int = 64,
) -> st.SearchStrategy[NDArray[np.float32]]:
    """Finite float32 tensors of `probing_values` of `parameters`, each value drawn by itself.

    `shape` is a shape, a strategy of shapes, or None for up to three axes and `max_values` values.
    Along the quantized dimension the size is the number of scales, and each slice probes its own.
    Raises QnnRobustError for a shape without the quantized dimension.
    """
    if not isinstance(parameters, AffineParameters):
        raise expected("AffineParameters", parameters=type(parameters).__name__)
    check_range(("1", "max_values"), 1, max_values, (1, 4096))
    axis = parameters.quantized_dimension
    rank = 1 if axis is None else axis + 1
    if shape is None:
        side = max(int((max_values / len(parameters.scale)) ** (1 / 3)), 1)
        shape = array_shapes(min_dims=rank, max_dims=max(rank, 3), max_side=side)
    elif not isinstance(shape, st.SearchStrategy) and len(shape) < rank:
        raise expected(f"a shape that has axis {axis}", shape=shape)
    return _tensors(parameters, shape, saturated)


def _nudged(value: np.float32, side: int) -> float:
    if not side:
        return float(value)
    return float(np.nextafter(value, np.float32(side * np.inf)))
