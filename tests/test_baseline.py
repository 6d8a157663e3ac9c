"""A run against a recorded one: what is worse, what is not comparable, how often it errs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.claims.verdicts import Rule
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.gate import baseline
from pytest_qnnrobust.options.values import Limits, LossLimit, parse_limits
from pytest_qnnrobust.statistics.paired import holm
from tests.helpers.examples import examples
from tests.helpers.outcomes import recorded, results, share, statuses

RULE, USUAL = Rule(), Limits()
N = 200


def flipped(right, share_of_right, seed=1):
    lost = np.random.default_rng(seed).random(len(right)) < share_of_right
    return right & ~lost


def test_the_same_outcomes_are_kept_however_few_they_are():
    for n in (3, 50, N):
        before = recorded(int8_pgd_direct=share(n, 0.6, 0))
        found = baseline.compare(before, before, USUAL, RULE)
        assert [(one.name, one.status) for one in found] == [
            ("int8-clean clean", "kept"),
            ("int8-pgd-direct accuracy", "kept"),
        ]
        assert found[1].text == f"the same on each of {n} samples"


def test_a_large_loss_is_worse_and_a_small_one_is_not():
    right = share(N, 0.7, 0)
    before = recorded(int8_pgd_direct=right)
    assert (
        statuses(before, recorded(int8_pgd_direct=flipped(right, 0.3)))["int8-pgd-direct accuracy"]
        == "worse"
    )
    assert statuses(before, recorded(int8_pgd_direct=flipped(right, 0.02)))[
        "int8-pgd-direct accuracy"
    ] in ("kept", "inconclusive")
    better = recorded(int8_pgd_direct=np.ones(N, bool))
    assert statuses(before, better)["int8-pgd-direct accuracy"] == "kept"


def test_distances_are_compared_where_an_attack_looks_for_the_nearest():
    l2 = np.random.default_rng(0).gamma(9.0, 0.1, N)
    none = np.zeros(N, bool)
    before = recorded(int8_boundary_direct=(none, l2))
    name = "int8-boundary-direct distance"
    assert statuses(before, before)[name] == "kept"
    assert statuses(before, recorded(int8_boundary_direct=(none, 0.7 * l2)))[name] == "worse"
    assert statuses(before, recorded(int8_boundary_direct=(none, 0.97 * l2)))[name] == "kept"
    assert "int8-pgd-direct distance" not in statuses(*[recorded(int8_pgd_direct=none)] * 2)


def test_limits_are_options():
    right = share(N, 0.7, 0)
    before, now = recorded(int8_pgd_direct=right), recorded(int8_pgd_direct=flipped(right, 0.2))
    wide, narrow = (
        parse_limits("accuracy:-30pt"),
        parse_limits("accuracy:-30pt,int8-pgd:accuracy:-1pt"),
    )
    name = "int8-pgd-direct accuracy"
    assert statuses(before, now, wide)[name] == "kept"
    assert statuses(before, now, narrow)[name] == "worse"
    assert parse_limits("int8-boundary:distance:-10%").rules == (
        LossLimit("int8-boundary", "distance", 0.1),
    )


def test_cells_that_cannot_be_compared_say_why():
    right = share(20, 0.7, 0)
    before = recorded(int8_pgd_direct=right, int8_fgsm_direct=right, int8_old_direct=right)
    cells = {one.id: one for one in before.outcomes}
    now = results(
        outcomes=(
            replace(cells["int8-pgd-direct"], settings="PGD(eps=0.2)"),
            replace(cells["int8-fgsm-direct"], seed=1),
            replace(cells["int8-old-direct"], id="int8-new-direct"),
        )
    )
    found = {one.cell: one for one in baseline.compare(before, now, USUAL, RULE)}
    assert found["int8-pgd-direct"].text == "other settings: PGD(eps=0.2), recorded with X()"
    assert found["int8-fgsm-direct"].text == "other seed: 1, recorded with 0"
    assert found["int8-new-direct"].status == "new"
    assert found["int8-old-direct"].status == "vanished"


def test_other_data_make_every_cell_stale():
    before = recorded(int8_pgd_direct=share(20, 0.7, 0))
    now = replace(before, data=replace(before.data, digest="e" * 64, name="other.npz"))
    (one,) = baseline.compare(before, now, USUAL, RULE)
    assert one.status == "stale"
    assert one.text == "other data: 20 samples of other.npz, recorded with 20 of digits"


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_matrix_at_its_limit_errs_at_most_at_the_stated_level():
    # Twelve cells, each of which lost exactly its limit of 3 points.
    rng = np.random.default_rng(5)
    called, repeats = 0, examples(300)
    for _ in range(repeats):
        before, now = {}, {}
        for number in range(12):
            draw, common = rng.random(N), rng.random(N) < 0.5
            before[f"c{number}"] = (draw < 0.065) | (common & (draw >= 0.1))
            now[f"c{number}"] = ((draw >= 0.065) & (draw < 0.1)) | (common & (draw >= 0.1))
        found = statuses(recorded(**before), recorded(**now))
        called += "worse" in found.values()
    assert called / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


def test_two_budgets_of_one_attack_are_compared_each_with_its_own():
    """The later of them stood for both, and the loss of the other was not seen."""
    right = share(N, 0.85, 0)

    def both(small, large):
        run = recorded(int8_fgsm_direct=small)
        (outcome,) = run.outcomes
        other = replace(outcome, settings="FGSM(eps=0.3)", adv_label=1 - large.astype(int))
        return replace(run, outcomes=(outcome, other))

    before, now = both(right, right), both(right & (np.arange(N) % 10 == 0), right)
    status = statuses(before, now)
    worse = [name for name, value in status.items() if value == "worse"]
    kept = [name for name, value in status.items() if value == "kept" and "fgsm" in name]
    assert len(worse) == len(kept) == 1
    assert "settings=FGSM(eps=0.3)" in kept[0]
    alone = statuses(before, recorded(int8_fgsm_direct=right))
    assert sorted(alone.values()) == ["kept", "kept", "vanished"]


def test_a_limit_that_fits_no_cell_is_refused():
    cells = [("int8", "fgsm", "direct"), ("int8", "boundary", "direct")]
    baseline.check_limits(parse_limits("int8-fgsm:accuracy:-1pt,int8:clean:-1pt"), cells)
    baseline.check_limits(parse_limits("boundary:distance:-1%,distance:-2%"), cells[1:])
    for text in ("int8-fgmm:accuracy:-0pt", "int8-fgsm:distance:-1%", "int16:clean:-1pt"):
        with pytest.raises(QnnRobustError, match=r"--qnn-fail-if .*to fit"):
            baseline.check_limits(parse_limits(text), cells)
