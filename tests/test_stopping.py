"""What cells are held to: which claims there are, at which level, and how often a matrix errs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.claims.verdicts import Rule
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.evaluation.evaluator import Evaluator
from pytest_qnnrobust.gate import baseline
from pytest_qnnrobust.gate.stopping import Stopping, require_random_order
from pytest_qnnrobust.options.values import USUAL_LIMITS, Limits, Threshold, parse_limits
from pytest_qnnrobust.results.document import SequentialRecord
from tests.helpers.outcomes import outcome, recorded, results, share, statuses
from tests.helpers.threshold import SQUARE, ThresholdModel, samples

N = 200
CELLS = ("int8-pgd-direct", "int8-fgsm-direct", "int8-boundary-direct")


def stopping(before=None, thresholds=(), limits=USUAL_LIMITS, cells=CELLS):
    return Stopping(cells, thresholds, before, limits, results().data, 0.05)


def first(whole, n):
    """The first n samples of an outcome."""
    cut = {k: v[:n] for k, v in vars(whole).items() if isinstance(v, np.ndarray)}
    return replace(whole, **cut)


def test_a_claim_is_made_of_a_threshold_and_of_a_recorded_cell():
    before = recorded(int8_pgd_direct=share(N, 0.7, 0), int8_fgsm_direct=share(N, 0.6, 1))
    held = stopping(before, (Threshold("pgd", 0.3), Threshold("", 0.0)))
    now = {one.id: one for one in before.outcomes}
    found = held.judge(now["int8-pgd-direct"], N)
    assert [one.name for one in found] == ["int8-pgd-direct baseline", "int8-pgd-direct threshold"]
    assert [one.about for one in held.judge(now["int8-fgsm-direct"], N)] == ["baseline"]
    # One threshold, two recorded cells and the clean accuracy of their width.
    assert {one.claims for one in found} == {held.claims} == {4}
    assert found[0].level == 0.05 / 4


def test_nothing_is_claimed_of_what_has_to_run_in_full():
    l2 = np.linspace(0, 1, N)
    before = recorded(int8_boundary_direct=(np.zeros(N, bool), l2))
    now = before.outcomes[0]
    assert stopping(before).judge(now, N) == []
    assert stopping().judge(now, N) == []
    assert stopping(before, cells=()).judge(now, N) == []
    assert len(stopping(None, (Threshold("", 0.5),)).judge(now, N)) == 1


def test_nothing_is_claimed_against_other_data_or_settings():
    before = recorded(int8_pgd_direct=share(N, 0.7, 0))
    now = before.outcomes[0]
    assert len(stopping(before).judge(now, N)) == 1
    assert stopping(before).judge(replace(now, seed=1), N) == []
    other = replace(before, data=replace(before.data, digest="e" * 64))
    assert stopping(other).judge(now, N) == []
    assert stopping(other).claims == 0


def test_a_watched_cell_is_compared_and_a_shorter_one_is_stale():
    right = share(N, 0.9, 0)
    before = recorded(int8_pgd_direct=right)
    lost = recorded(int8_pgd_direct=right & ~share(N, 0.5, 2)).outcomes[0]
    short = results(outcomes=(first(lost, 50),), sequential=())
    (one,) = baseline.compare(before, short, Limits(), Rule())
    assert (one.status, one.text) == ("stale", "other samples: 50, recorded with 200")
    watched = replace(short, sequential=tuple(stopping(before).judge(short.outcomes[0], N)))
    found = statuses(before, watched)
    assert found["int8-pgd-direct accuracy"] == "worse"
    assert found["int8-clean clean"] == "inconclusive"
    # Forty-nine other samples, or samples that were not recorded, remain stale.
    other = replace(watched, outcomes=(replace(first(lost, 50), index=np.arange(1, 51)),))
    assert statuses(before, other)["int8-pgd-direct"] == "stale"


def test_the_same_outcomes_of_a_part_are_no_proof_for_the_whole():
    right = share(N, 0.7, 0)
    before = recorded(int8_pgd_direct=right)
    part = first(before.outcomes[0], 50)
    records = tuple(stopping(before).judge(part, N))
    now = results(outcomes=(part,), sequential=records)
    assert statuses(before, now)["int8-pgd-direct accuracy"] == "inconclusive"
    wide = parse_limits("accuracy:-40pt")
    assert statuses(before, now, wide)["int8-pgd-direct accuracy"] == "kept"
    whole = results(outcomes=before.outcomes, sequential=records)
    assert statuses(before, whole)["int8-pgd-direct accuracy"] == "kept"


def test_a_matrix_that_stops_early_errs_at_most_at_the_stated_level():
    # Four cells, two of which lost exactly their limit of 10 points and two of which are exactly
    # as accurate as they have to be; each stops at the prefix at which its claim is decided.
    rng = np.random.default_rng(3)
    cells = tuple(f"int8-{name}-direct" for name in ("pgd", "fgsm", "bim", "noise"))
    thresholds = tuple(Threshold(cell, 0.5) for cell in cells[2:])
    repeats, called, stopped = 150, 0, 0
    sizes = Evaluator(*samples(112)).prefixes(SQUARE)
    assert sizes == [25, 50, 75, 112]
    for _ in range(repeats):
        u = rng.random((4, 112))
        before = recorded(int8_pgd_direct=u[0] < 0.7, int8_fgsm_direct=u[1] < 0.7)
        right = u[0] < 0.6, u[1] < 0.6, u[2] < 0.5, u[3] < 0.5
        held = stopping(before, thresholds, parse_limits("accuracy:-10pt"), cells)
        values = []
        for cell, mask in zip(cells, right, strict=True):
            whole = replace(outcome("int8", mask), id=cell, attack=cell.split("-")[1])
            for size in sizes:
                (record,) = held.judge(first(whole, size), 112)
                if record.value != "undecided":
                    break
            values.append(record.value)
        called += "violated" in values
        stopped += any(value != "undecided" for value in values)
    assert called / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert stopped < repeats / 4


@pytest.mark.parametrize("kind", ["random", "turns", "one"])
def test_labels_in_random_order_or_in_turns_are_taken(kind):
    labels = {
        "random": np.random.default_rng(0).integers(0, 10, 200),
        "turns": np.arange(200) % 10,
        "one": np.zeros(50, np.int64),
    }[kind]
    require_random_order(labels)


@pytest.mark.parametrize("classes", [2, 10])
def test_labels_by_class_are_refused(classes):
    with pytest.raises(QnnRobustError, match="samples in random order for --qnn-sequential"):
        require_random_order(np.sort(np.arange(200) % classes))


def test_prefixes_grow_by_half_and_are_reached_one_from_another():
    x, y = samples(60)
    model = ThresholdModel(0.5)
    grown, plain = Evaluator(x, y, in_prefixes=True), Evaluator(x, y)
    assert grown.prefixes(SQUARE) == [25, 50, 60]
    assert Evaluator(x[:25], y[:25]).prefixes(SQUARE) == [25]
    assert Evaluator(x[:0], y[:0]).prefixes(SQUARE) == [0]
    assert Evaluator(x, y, time_budget=9.0).prefixes(SQUARE) == [60]
    parts = [grown.craft(model, SQUARE, n) for n in (25, 50, 60)]
    asked, model.queries = model.queries, 0
    whole = plain.craft(model, SQUARE)
    assert asked == model.queries
    for part in parts:
        for name in ("x_adv", "adv_label", "queries", "linf"):
            found, expected = (getattr(one, name) for one in (part, whole))
            np.testing.assert_array_equal(found, expected[: len(part)])


def test_a_record_names_its_cell_and_what_it_is_about():
    record = SequentialRecord("a", "baseline", "x", "holds", 3, 25, 200, 0.05, 2, 0.01)
    assert record.name == "a baseline"
