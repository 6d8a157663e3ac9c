"""The fixtures in a user's own tests."""

from __future__ import annotations

import pytest

from pytest_qnnrobust.demo import demo_path

INT8 = demo_path("digits_int8.tflite")


def test_evaluate_in_a_users_test(pytester: pytest.Pytester, run, digits) -> None:
    pytester.makeini(f"[pytest]\nqnn_int8 = {INT8}\nqnn_data = {digits}\nqnn_samples = 10\n")
    own = pytester.makepyfile(
        """
        import pytest_qnnrobust.attacks as attacks

        def test_mine(qnn_int8, qnn_data, qnn_evaluate):
            x, y = qnn_data
            assert len(x) == len(y) == 10
            outcome = qnn_evaluate(qnn_int8, attacks.create("noise", eps=8 / 255))
            assert outcome.accuracy >= 0.6
            assert outcome is qnn_evaluate(qnn_int8, attacks.create("noise", eps=8 / 255))
        """
    )
    result = run(own)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["worst at 8/255: int8-noise-8/255-direct * of 10 *"])


def test_an_attack_that_does_not_fit_the_model_fails_with_one_line(pytester, run, digits) -> None:
    pytester.makeini(f"[pytest]\nqnn_int8 = {INT8}\nqnn_data = {digits}\nqnn_samples = 4\n")
    own = pytester.makepyfile(
        """
        import pytest_qnnrobust.attacks as attacks

        def test_mine(qnn_int8, qnn_evaluate):
            qnn_evaluate(qnn_int8, attacks.create("fgsm", eps=3))
        """
    )
    result = run(own)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["int8-fgsm-direct: expected eps to be in*got eps=3*"])
    assert "Traceback" not in result.stdout.str()
    assert "pytest_qnnrobust/" not in result.stdout.str()


def test_matrix_parametrizes_a_users_test(pytester: pytest.Pytester, run, digits) -> None:
    pytester.makeini(f"[pytest]\nqnn_model = {INT8}\nqnn_data = {digits}\nqnn_attack = noise,pgd\n")
    own = pytester.makepyfile("def test_mine(qnn_model, qnn_attack): pass")
    result = run(own, "-v")
    result.assert_outcomes(passed=8, skipped=4)
    result.stdout.fnmatch_lines(["*test_mine[[]int8-pgd-2/255[]] PASSED*"])


def test_marks_are_put_on_tests_that_use_the_fixtures(pytester, run, digits) -> None:
    pytester.makeini(f"[pytest]\nqnn_model = {INT8}\nqnn_data = {digits}\n")
    own = pytester.makepyfile("def test_mine(qnn_int8): pass\ndef test_other(): pass")
    run(own, "-m", "qnn").assert_outcomes(passed=1, deselected=1)


def test_fixture_without_a_model_skips(pytester: pytest.Pytester, run) -> None:
    pytester.makepyfile("def test_mine(qnn_int8): pass")
    result = run("-rs")
    result.assert_outcomes(skipped=1)
    assert "no model: give --qnn-model or --qnn-int8" in result.stdout.str()


def test_bad_file_in_the_ini_ends_a_users_run_with_code_4(pytester, run) -> None:
    pytester.makeini("[pytest]\nqnn_int8 = absent.tflite\n")
    pytester.makepyfile("def test_mine(qnn_int8): pass")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "absent.tflite" in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("value", "outcome"), [("holds", "passed"), ("violated", "failed"), ("inconclusive", "skipped")]
)
def test_judge(pytester: pytest.Pytester, run, value: str, outcome: str) -> None:
    pytester.makepyfile(
        f"""
        from pytest_qnnrobust.statistics.paired import Interval
        from pytest_qnnrobust.claims.verdicts import Verdict

        def test_claim(qnn_judge):
            interval = Interval(-0.1, 0.1, 0.9)
            qnn_judge(Verdict("claim", "{value}", "a against b", 0.0, interval, 0.5, 0.2, 10))
        """
    )
    result = run("-rs", "-v")
    result.assert_outcomes(**{outcome: 1})
    assert f"{value.upper()}: claim. a against b" in result.stdout.str()
    if value == "inconclusive":
        assert "10 samples show a difference of 20 points or more" in result.stdout.str()
