"""Published findings on models where they do not hold: reported, or failed with --qnn-findings."""

from __future__ import annotations

from pytest_qnnrobust.demo import demo_path
from tests.plugin.conftest import summary

FLOAT, INT8 = (demo_path(name) for name in ("digits_float.keras", "digits_int8.tflite"))
GATE = ("--qnn-samples=40", "--qnn-eps=0.1", "-v")
ANGLE = ("robustness_tests/test_takeaways.py", "-k", "point_elsewhere and int8")
FEW = ("--qnn-samples=12",)


def test_a_finding_that_does_not_hold_is_reported_and_fails_nothing(gate) -> None:
    result = gate(*ANGLE)
    assert result.ret == 0
    result.assert_outcomes(xfailed=1)
    text = summary(result)
    assert "VIOLATED (a finding, no fault of the model): T4 int8 gradient misaligned" in text
    assert "NOT RUN: test_gradients_of_quantized" not in text


def test_a_finding_fails_where_it_is_asked_to(gate) -> None:
    result = gate(
        *ANGLE,
        "--qnn-findings=fail",
    )
    assert result.ret == 1
    assert "VIOLATED: T4 int8 gradient misaligned with float32" in summary(result)


def test_observations_of_the_other_papers_are_judged(gate) -> None:
    result = gate("-m", "qnn_observation", *FEW, "--qnn-attack=fgsm,jsma,boundary", "-k", "int8")
    text = summary(result)
    assert result.ret == 0
    for name in (
        "O1 Boundary fools int8",
        "O1.1 Boundary is more distorted on int8",
        "O1.2 int8 distorted images keep their class second",
        "O3 fgsm is weaker on int8",
        "O4 JSMA needs more features on int8",
    ):
        assert name in text
    assert "no uap among the attacks of this run (--qnn-attack)" in text


def test_zeros_of_measured_gradients_are_compared(gate) -> None:
    text = summary(gate("-k", "more_zeros", *FEW))
    assert "T2 zeros in the gradient int8 >= int16 >= float32" in text
