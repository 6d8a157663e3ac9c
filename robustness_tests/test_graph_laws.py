"""Laws of the integer graph and diagnostics of its quantization; they need no data.

Inputs are drawn uniformly from the model's own domain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_qnnrobust.models import InputGrid, Model
from pytest_qnnrobust.session import Session

pytestmark = [
    pytest.mark.qnn_law,
    pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True),
]

SAMPLES = 24


@pytest.fixture
def inputs(qnn_model: Model, qnn_session: Session) -> NDArray[np.float32]:
    """Random inputs on the model's input grid, inside its bounds."""
    rng = np.random.default_rng(qnn_session.options.seed)
    low, high = qnn_model.bounds
    x = rng.uniform(low, high, (SAMPLES, *qnn_model.input_shape))
    return _grid(qnn_model).snap(x)


def test_result_does_not_depend_on_the_batch(qnn_model: Model, inputs: NDArray[np.float32]) -> None:
    alone = np.concatenate([qnn_model.predict(x[None]) for x in inputs])
    _require_equal(qnn_model.predict(inputs), alone, "one batch against one sample at a time")


def test_result_does_not_depend_on_the_order(qnn_model: Model, inputs: NDArray[np.float32]) -> None:
    order = np.random.default_rng(0).permutation(len(inputs))
    shuffled = qnn_model.predict(inputs[order])
    _require_equal(qnn_model.predict(inputs)[order], shuffled, "one order against another")


def test_less_than_half_an_input_step_changes_nothing(
    qnn_model: Model, inputs: NDArray[np.float32]
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.49, 0.49, inputs.shape) * _grid(qnn_model).scale
    moved = qnn_model.predict((inputs + noise).astype(np.float32))
    _require_equal(qnn_model.predict(inputs), moved, "the input against less than half a step off")


def test_inputs_beyond_the_range_saturate(qnn_model: Model, inputs: NDArray[np.float32]) -> None:
    low, high = _grid(qnn_model).range
    ends = np.where(np.random.default_rng(0).random(inputs.shape) < 0.5, low, high)
    beyond = ends + np.sign(ends - (low + high) / 2) * (high - low)
    _require_equal(
        qnn_model.predict(ends.astype(np.float32)),
        qnn_model.predict(beyond.astype(np.float32)),
        "the ends of the input range against values beyond them",
    )


def test_outputs_depend_on_the_input(
    qnn_model: Model, inputs: NDArray[np.float32], qnn_session: Session
) -> None:
    """A graph that returns one output for every input is dead; ties are counted and reported."""
    low, high = qnn_model.bounds
    flat = np.stack([np.full(qnn_model.input_shape, v, np.float32) for v in (low, high)])
    output = qnn_model.predict(np.concatenate([inputs, flat]))
    tied = (output == output.max(axis=1, keepdims=True)).sum(axis=1) > 1
    qnn_session.note(
        f"{qnn_model.width} ties",
        f"the highest output is shared by two classes or more on {int(tied.sum())} of "
        f"{len(output)} random inputs; the lowest index is the decision",
    )
    if len(np.unique(output, axis=0)) == 1:
        pytest.fail(f"all {len(output)} random inputs give the output {output[0]}", pytrace=False)


def test_input_quantization_covers_the_domain(qnn_model: Model, qnn_session: Session) -> None:
    """What the input range cannot express is cut off before the first layer."""
    grid = _grid(qnn_model)
    (low, high), (first, last) = qnn_model.bounds, grid.range
    cut = max(first - low, 0.0) + max(high - last, 0.0)
    qnn_session.note(
        f"{qnn_model.width} input",
        f"step {grid.scale:.3g}, {round((high - low) / grid.scale) + 1} values in the domain "
        f"{low:g}..{high:g}, integers stand for {first:.4g}..{last:.4g}",
    )
    if cut > 0.05 * (high - low):
        pytest.fail(
            f"{100 * cut / (high - low):.1f} % of the domain {low:g}..{high:g} lies outside of "
            f"{first:.4g}..{last:.4g}, which the input integers stand for: give --qnn-domain",
            pytrace=False,
        )


def _grid(model: Model) -> InputGrid:
    assert model.grid is not None
    return model.grid


def _require_equal(first: NDArray[Any], second: NDArray[Any], what: str) -> None:
    different = np.any(first != second, axis=1)
    if different.any():
        pytest.fail(
            f"outputs of {int(different.sum())} of {len(different)} samples differ: {what}",
            pytrace=False,
        )
