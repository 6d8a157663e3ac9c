"""`--qnn-quantizer`: a complete run without a model, one test for each law."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.quantizers import LAWS

ROOT = Path(__file__).resolve().parents[2]

QUANTIZER = """
import numpy as np

class Quantizer:
    minimum, maximum, scale, zero_point, dtype = -128, 127, 0.05, -3, "int8"
    rounding = "half_even"

    def quantize(self, x):
        codes = np.round(x / np.float32(self.scale)) + self.zero_point
        return np.clip(codes, self.minimum, self.maximum).astype(np.int8)

    def dequantize(self, q):
        return np.float32(self.scale) * (q.astype(np.float32) - self.zero_point)

class Wrapping(Quantizer):
    def quantize(self, x):
        return (np.round(x / np.float32(self.scale)) + self.zero_point).astype(np.int8)

class Nothing:
    minimum, maximum = 0, 1

class Unfitted(Quantizer):
    stochastic = True

    def quantize(self, x, rng):
        return self.fitted.quantize(x, rng)

class FittingMatrices(Quantizer):
    def fit(self, x):
        raise ValueError("four axes" + chr(10) + "are needed")

ready = Quantizer()
"""


@pytest.fixture
def module(pytester: pytest.Pytester) -> str:
    """A module `mine` with quantizers, in the folder of the run."""
    pytester.makepyfile(mine=QUANTIZER)
    return "mine"


def test_one_test_for_each_law_and_nothing_else(run, module: str) -> None:
    result = run("--qnn-quantizer", f"{module}:Quantizer", "-rs")
    result.assert_outcomes(passed=10, skipped=len(LAWS) - 10)
    result.stdout.fnmatch_lines(["qnnrobust: quantizer mine:Quantizer"])
    result.stdout.fnmatch_lines(["*unbiased does not apply: not stochastic"])
    result.stdout.no_fnmatch_line("*NOT measured*")
    result.stdout.no_fnmatch_line("*= robustness =*")


@pytest.mark.parametrize("name", ["StochasticBinary", "StochasticTernary"])
def test_a_biased_one_of_ours_is_skipped_with_the_reason(run, name: str) -> None:
    which = ("-rs", "-k", "unbiased or dtype")
    result = run("--qnn-quantizer", f"pytest_qnnrobust.quantizers:{name}", *which)
    result.assert_outcomes(passed=1, skipped=1, deselected=len(LAWS) - 2)
    result.stdout.fnmatch_lines(["*unbiased does not apply: biased, as it claims (unbiased = *"])


def test_a_failure_is_four_lines(run, module: str) -> None:
    result = run("--qnn-quantizer", f"{module}:Wrapping", "-k", "range or monotone or zero")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "_* test_law[[]range-and-saturation[]] _*",
            "range-and-saturation: minimum <= Q(x) <= maximum; *",
            "  x = np.float32(*)",
            "  Q(x) = *, expected * of the codes -128..127",
            "  off by 255 codes",
            "_* test_law[[]monotone[]] _*",
        ]
    )
    result.assert_outcomes(failed=2, passed=2, deselected=len(LAWS) - 4)
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("mine", "expected MODULE:OBJECT such as mymodule:quantizer, got 'mine'"),
        ("absent:q", "expected a module that can be imported, got module='absent', reason="),
        ("mine:absent", "expected an object of the module mine, got object='absent'"),
        ("mine:Nothing", "got type='Nothing', missing='quantize, dequantize'"),
        (
            "mine:Unfitted",
            "mine:Unfitted: expected a quantizer that can be used as it is, got type=",
        ),
        ("mine:FittingMatrices", "expected fit(x) to return the quantizer of a tensor x of shape"),
        (
            "pytest_qnnrobust.quantizers:AffineQuantizer",
            "to be made without arguments, got reason=",
        ),
    ],
)
def test_mistakes_are_one_line(refused, module: str, source: str, line: str) -> None:
    found = refused("--qnn-quantizer", source)
    assert found.startswith("ERROR: --qnn-quantizer: ")
    assert line in found


def test_the_ini_key_alone_is_for_fixtures(pytester: pytest.Pytester, run) -> None:
    pytester.makeini("[pytest]\nqnn_quantizer = mine:Quantizer\npythonpath = src\n")
    (pytester.mkdir("src") / "mine.py").write_text(QUANTIZER)
    pytester.makepyfile(
        """
        import pytest_qnnrobust as qnn

        def test_mine(qnn_quantizer):
            qnn.check_quantizer(qnn_quantizer, laws=["exact-zero"])
        """
    )
    run().assert_outcomes(passed=1)


def test_without_one_the_fixture_skips(pytester: pytest.Pytester, run) -> None:
    pytester.makepyfile("def test_mine(qnn_quantizer): pass")
    result = run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no quantizer: give --qnn-quantizer MODULE:OBJECT"])


def test_beside_a_model_both_are_checked(run, module: str) -> None:
    model = demo_path("digits_int8.tflite")
    both = "exact-zero or (on_the_batch and int8)"
    result = run("--qnn-int8", model, "--qnn-quantizer", f"{module}:ready", "-k", both)
    result.assert_outcomes(passed=2, deselected=result.parseoutcomes()["deselected"])


def test_tensorflow_stays_out(pytester: pytest.Pytester, module: str, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(
        """
        import sys

        def pytest_sessionfinish(session):
            print("tensorflow:", "tensorflow" in sys.modules, "keras" in sys.modules)
        """
    )
    from tests.plugin.conftest import LOADED

    few = ("-k", "shape or halves", "-p", "no:cacheprovider", "-s")
    result = pytester.runpytest_subprocess(*LOADED, "--qnn-quantizer", f"{module}:ready", *few)
    result.assert_outcomes(passed=2, deselected=len(LAWS) - 2)
    result.stdout.fnmatch_lines(["*tensorflow: False False"])
