"""Laws of the integer graph and diagnostics of its quantization; they need no data.

Inputs are drawn uniformly from the model's own domain, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.run.session import Session

pytestmark = [
    pytest.mark.qnn_law,
    pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True),
]

SAMPLES = 24
EXAMPLES = 20
OF_DATA = 256
"""Samples of the data that a graph is asked about which returned one output before."""

LEVELS = 9
HALVINGS = 8
SHOWN = 5
"""Scores of an output that a message shows."""

PLACE = st.sampled_from((0.0, -0.5, 0.5, -0.25, 0.49))
"""Places in the bucket of an integer, in steps from the integer's own value."""
ROWS = st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=SAMPLES)


@pytest.fixture
def qnn_model(qnn_model: Model, qnn_session: Session) -> Model:
    """The plugin's model, whose earlier answers are read from the cache."""
    return qnn_session.cached(qnn_model)


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


def test_the_output_is_constant_on_a_bucket(qnn_model: Model, qnn_session: Session) -> None:
    """Real inputs of one integer, up to both ends of its bucket, give one output."""
    grid, seed = _grid(qnn_model), qnn_session.options.seed
    limits = np.iinfo(grid.dtype)

    def law(number: int, places: tuple[float, float]) -> None:
        rng = np.random.default_rng((seed, number))
        shape = (4, *qnn_model.input_shape)
        q = rng.integers(limits.min, limits.max + 1, shape)
        outputs = [qnn_model.predict(_in_bucket(grid, q, place)) for place in places]
        _require_equal(*outputs, f"places {places} in the buckets of the same integers")

    _for_all(law, number=st.integers(0, 2**16), places=st.tuples(PLACE, PLACE))


def test_samples_may_be_chosen_ordered_and_repeated(
    qnn_model: Model, inputs: NDArray[np.float32]
) -> None:
    whole = qnn_model.predict(inputs)

    def law(rows: list[int]) -> None:
        _require_equal(whole[rows], qnn_model.predict(inputs[rows]), f"rows {rows} of a batch")

    _for_all(law, rows=ROWS)


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
    """A graph that returns one output for every input is dead; ties are counted and reported.

    A sound one may saturate on everything that can be made up: only data show that it is dead.
    """
    output = qnn_model.predict(np.concatenate([inputs, _structured(qnn_model)]))
    tied = (output == output.max(axis=1, keepdims=True)).sum(axis=1) > 1
    qnn_session.gathered.note(
        f"{qnn_model.width} ties",
        f"the highest output is shared by two classes or more on {int(tied.sum())} of "
        f"{len(output)} random inputs, constants and ramps; the lowest index is the decision",
    )
    if len(np.unique(output, axis=0)) > 1:
        return
    text = f"{len(output)} random inputs, constants and ramps give one output, {_shown(output[0])}"
    if (data := qnn_session.subjects.data) is None:
        text += "; give --qnn-data to see whether the model is dead or saturates"
        qnn_session.gathered.note(f"{qnn_model.width} outputs", text)
        pytest.skip(text)
    of_data = qnn_model.predict(data.x[:OF_DATA])
    if len(np.unique(np.concatenate([output[:1], of_data]), axis=0)) == 1:
        pytest.fail(f"{text}, and so do {len(of_data)} samples of the data", pytrace=False)


def test_input_quantization_covers_the_domain(qnn_model: Model, qnn_session: Session) -> None:
    """The input range covers the domain: values beyond it are cut off before the first layer."""
    grid = _grid(qnn_model)
    (low, high), (first, last) = qnn_model.bounds, grid.range
    cut = max(first - low, 0.0) + max(high - last, 0.0)
    qnn_session.gathered.note(
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


def _structured(model: Model) -> NDArray[np.float32]:
    """Inputs on which a graph that saturates on noise may not: constants, ramps, faint noise.

    Constants at `LEVELS` of the domain, ramps from end to end along the elements and along each
    axis, both ways, and normal noise of falling size around the middle and around zero.
    """
    low, high = model.bounds
    shape = model.input_shape
    constants = [np.full(shape, level) for level in np.linspace(low, high, LEVELS)]
    whole = np.linspace(low, high, int(np.prod(shape))).reshape(shape)
    lines = [np.linspace(low, high, size) for size in shape]
    along = [
        np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)
        for axis, line in enumerate(lines)
    ]
    ramps = [both for ramp in (whole, *along) for both in (ramp, low + high - ramp)]
    rng = np.random.default_rng(0)
    faint = [
        centre + (high - low) * 0.5**halvings * rng.standard_normal(shape)
        for centre in ((low + high) / 2, 0.0)
        for halvings in range(1, HALVINGS + 1)
    ]
    return np.clip(np.stack([*constants, *ramps, *faint]), low, high).astype(np.float32)


def _shown(output: NDArray[Any]) -> str:
    """The first scores of an output."""
    first = ", ".join(f"{score:.4g}" for score in output[:SHOWN])
    return f"[{first}]" if len(output) <= SHOWN else f"[{first}, ...] of {len(output)} scores"


def _for_all(law: Callable[..., None], **drawn: Any) -> None:
    """Check the law on drawn examples, the same ones in every run."""
    chosen = settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
    chosen(given(**drawn)(law))()


def _in_bucket(grid: InputGrid, q: NDArray[Any], place: float) -> NDArray[np.float32]:
    """float32 values `place` steps from the integers; at an end the last one inside the bucket."""
    exact = grid.scale * (q.astype(np.float64) - grid.zero_point + place)
    x = exact.astype(np.float32)
    # float32 may have rounded into the next bucket; a few neighbours towards the integer suffice.
    for _ in range(4):
        outside = grid.quantize(x) != q
        x = np.where(outside, np.nextafter(x, grid.dequantize(q)), x)
    return x


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
