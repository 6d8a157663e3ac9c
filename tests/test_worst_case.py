"""Robust accuracy: the worst case over attacks, sample by sample, and the headline made of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_qnnrobust.evaluation.cells import budget_name
from pytest_qnnrobust.evaluation.worst_case import nearest, worst_cases
from pytest_qnnrobust.results import headline
from pytest_qnnrobust.results.document import ModelRecord, RequirementRecord
from tests.helpers.outcomes import outcome, results

TWO, EIGHT = 2 / 255, 8 / 255


def cell(attack: str, right: list[int], eps: float | None = None, linf=None, l2=None, **fields):
    """A direct int8 cell of `attack`, with the budget `eps` in Linf if it has one."""
    made = outcome("int8", np.array(right, bool))
    distance = np.full(len(right), eps or 0.0) if linf is None else np.asarray(linf, float)
    label = f"-{round(eps * 255)}/255" if eps else ""
    return replace(
        made,
        id=f"int8-{attack}{label}-direct",
        attack=attack,
        norm="linf" if eps else "",
        eps=eps,
        step=1 / 255,
        linf=distance,
        l2=np.zeros(len(right)) if l2 is None else np.asarray(l2, float),
        **fields,
    )


def test_a_sample_is_robust_where_it_withstands_every_attack() -> None:
    cells = [cell("pgd", [1, 1, 0, 0], TWO), cell("square-linf", [1, 0, 1, 0], TWO)]
    (case,) = worst_cases(cells, "", "int8")
    assert case.robust.tolist() == [True, False, False, False]
    assert (case.id, case.accuracy, case.attacks) == (
        "int8-worst-2/255", 0.25, ("pgd", "square-linf"),
    )  # fmt: skip
    assert case.interval().low < 0.25 < case.interval().high


def test_an_example_counts_at_every_budget_that_it_obeys() -> None:
    """DeepFool's near example breaks both budgets, its far one none; PGD's at 8/255 one."""
    cells = [
        cell("pgd", [1, 1, 1], TWO),
        cell("pgd", [1, 1, 0], EIGHT, linf=[0, 0, EIGHT]),
        cell("deepfool", [0, 0, 0], linf=[TWO, 0.5, 0.5]),
    ]
    small, large = worst_cases(cells, "", "int8")
    assert small.robust.tolist() == [False, True, True]
    assert large.robust.tolist() == [False, True, False]


def test_budgets_of_other_norms_and_other_models_are_not_mixed() -> None:
    other = replace(cell("pgd", [0, 0], TWO), width="int16")
    defended = replace(cell("pgd", [0, 0], TWO), defense="sat")
    away = replace(cell("pgd", [0, 0], TWO), mode="transfer")
    l2 = replace(cell("square-l2", [0, 0], linf=[0.5, 0.5]), norm="l2", eps=1.0)
    cells = [cell("fgsm", [1, 1], TWO), other, defended, away, l2]
    (case,) = worst_cases(cells, "", "int8")
    assert case.robust.all()
    assert case.attacks == ("fgsm",)


def test_what_a_budget_cut_short_is_not_known_to_withstand() -> None:
    cut = np.array([True, True, False])
    (case,) = worst_cases([cell("pgd", [1, 0, 1], TWO, exhausted=cut)], "", "int8")
    assert case.cut_short.tolist() == [True, False, False]


def test_a_cell_that_stopped_early_limits_the_samples() -> None:
    (case,) = worst_cases([cell("pgd", [1] * 5, TWO), cell("fgsm", [1, 0], TWO)], "", "int8")
    assert case.robust.tolist() == [True, False]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5))
def test_more_attacks_never_leave_more(masks: list[list[bool]]) -> None:
    cells = [cell(f"a{i}", [int(v) for v in mask], TWO) for i, mask in enumerate(masks)]
    accuracies = [worst_cases(cells[: n + 1], "", "int8")[0].accuracy for n in range(len(cells))]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] <= min(one.accuracy for one in cells)


def test_the_nearest_example_is_that_of_any_attack() -> None:
    cells = [cell("deepfool", [0, 0, 1], l2=[3, 1, 0]), cell("pgd", [0, 1, 1], EIGHT, l2=[2, 9, 9])]
    assert nearest(cells, "", "int8") == 2
    assert math.isinf(nearest([cell("deepfool", [1, 1, 0], l2=[0, 0, 1])], "", "int8"))
    wrong = replace(cells[0], clean_label=np.ones(3, int))
    assert math.isnan(nearest([wrong], "", "int8"))


def test_the_sentence_has_what_a_release_is_decided_by() -> None:
    cells = (cell("pgd", [1, 0, 0, 0], TWO, l2=[0, 1, 2, 3]), cell("pgd", [0] * 4, EIGHT))
    cells = tuple(replace(one, defense="adversarial-training") for one in cells)
    run = results(outcomes=cells, models=(), state="", headline=(), requirements=())
    assert headline.sentences(run) == [
        "adversarial-training int8: 100.0 % clean -> 25.0 % at 2/255, 0.0 % at 8/255 (worst of 1 "
        "attack); nearest example L2 0"
    ]


def test_the_sentence_is_shortened_where_it_then_fits_a_line() -> None:
    fits = results(outcomes=(cell("pgd", [0, 0], TWO),), models=())
    assert headline.sentences(fits) == [
        "int8: 100.0 % clean -> 0.0 % at 2/255 (worst of 1 attack); nearest example L2 0"
    ]
    longer = replace(fits, outcomes=(replace(fits.outcomes[0], defense="sat"),))
    assert headline.sentences(longer) == [
        "sat int8: 100.0 % clean -> 0.0 % at 2/255 (worst of 1 attack); L2 0"
    ]


def test_the_model_that_ships_comes_first_and_the_twin_not_at_all() -> None:
    cells = [cell("pgd", [1, 0], TWO)]
    cells += [replace(cells[0], width=width) for width in ("float32", "int16")]
    cells.append(replace(cells[0], defense="sat"))
    cells.append(replace(cells[0], defense="squeezed", width="float32"))
    twin = ModelRecord("m", "float32", "keras", None, "derived: dequantized twin of m.tflite")
    run = results(outcomes=tuple(cells), models=(twin,))
    assert [text.partition(":")[0] for text in headline.sentences(run)] == [
        "int8", "int16", "sat int8",
    ]  # fmt: skip
    plain = results(outcomes=tuple(cells), models=())
    assert any(text.startswith("float32: ") for text in headline.sentences(plain))


HELD, OPEN, BROKEN = (
    RequirementRecord(f"test_baseline[{value}]", value, "text")  # type: ignore[arg-type]
    for value in ("held", "open", "violated")
)


@pytest.mark.parametrize(
    ("requirements", "passed", "state", "says"),
    [
        ((), True, "measured", "MEASURED, nothing required: record it with --qnn-baseline=FILE"),
        ((OPEN,), True, "measured", "MEASURED, nothing decided: 1 requirement open on 20 samples"),
        ((HELD,), True, "passed", "PASSED: 1 of 1 requirements held"),
        ((HELD, OPEN), True, "passed", "PASSED: 1 of 2 requirements held, 1 open on these"),
        ((HELD, BROKEN), False, "failed", "FAILED: test_baseline[violated]: text"),
    ],
)
def test_a_run_passes_only_where_something_was_required_and_held(
    requirements, passed: bool, state: str, says: str
) -> None:
    run = results(
        outcomes=(cell("pgd", [1, 0], TWO),), models=(), requirements=requirements, failed={}
    )
    told = headline.told(run, passed)
    assert told.state == state
    assert told.headline[-1].startswith(says)
    assert (state == "measured") == headline.title(told, passed).startswith("measured")


def test_a_run_without_a_cell_has_measured_nothing() -> None:
    told = headline.told(results(outcomes=(), models=(), requirements=(), failed={}), True)
    assert told.headline == ("NOTHING MEASURED: no attack ran; -v says why",)
    assert headline.title(told, True) == "nothing measured"


@pytest.mark.parametrize(
    ("eps", "name"), [(2 / 255, "2/255"), (0.0313725, "8/255"), (0.1, "0.1"), (0.0008, "0.0008")]
)
def test_a_budget_has_its_common_name_wherever_it_stands(eps: float, name: str) -> None:
    one = replace(cell("pgd", [1, 0], TWO), id="int8-pgd-direct", eps=eps)
    assert one.budget_label == budget_name(eps) == name


def test_what_was_lost_leads_before_what_could_not_be_compared() -> None:
    new = replace(BROKEN, name="test_baseline[a]", text="NEW: a. not in the baseline")
    worse = replace(BROKEN, name="test_baseline[b]", text="WORSE: b. now 15 %")
    run = results(
        outcomes=(cell("pgd", [1, 0], TWO),), models=(), requirements=(new, worse), failed={}
    )
    verdict = headline.told(run, False).headline[-1]
    assert verdict == "FAILED: test_baseline[b]: WORSE: b. now 15 % (and 1 more)"


def test_what_is_accepted_decides_nothing() -> None:
    accepted = replace(BROKEN, accepted="suppressed")
    run = results(
        outcomes=(cell("pgd", [1, 0], TWO),), models=(), requirements=(accepted,), failed={}
    )
    assert headline.told(run, True).headline[-1].startswith("MEASURED, nothing decided: what was")
    assert headline.state([accepted], passed=True) == "measured"
