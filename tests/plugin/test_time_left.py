"""How long the rest of a run takes: by what is still to be computed, at the pace so far."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.plugin import time_left
from pytest_qnnrobust.plugin.time_left import COSTS, TEST, TimeLeft

SQUARE, DEEPFOOL = ("int8", "square-linf-8/255"), ("int8", "deepfool")
LONG = COSTS["square-linf"]


def left(*tests: list[tuple[str, str]], **settings: Any) -> TimeLeft:
    """Tests "0", "1", ... that ask for these attacks, at a pace of 1 unless it is given."""
    return TimeLeft({str(i): units for i, units in enumerate(tests)}, **{"pace": 1.0, **settings})


def test_an_attack_counts_once_however_many_tests_ask_for_it() -> None:
    assert left([SQUARE], [SQUARE], []).seconds("0") == LONG + 3 * TEST


def test_what_is_known_already_takes_no_time() -> None:
    assert left([SQUARE], [DEEPFOOL], known=[DEEPFOOL]).seconds("0") == LONG + 2 * TEST
    run = left([SQUARE], [SQUARE])
    run.finish("0", 1.0, attacked=False)
    assert run.seconds("1") == TEST


def test_more_samples_take_longer() -> None:
    assert left([SQUARE], samples=1000).seconds("0") == 10 * LONG + TEST


def test_an_attack_that_is_not_named_takes_as_long_as_usual() -> None:
    assert left([("int8", "art:Other")]).seconds("0") == time_left.USUAL + TEST


def test_the_pace_is_that_of_the_attacks_so_far() -> None:
    run = left(*([("int8", f"square-linf-{i}/255")] for i in range(11)))
    for i in range(10):
        run.finish(str(i), 3.0 * (LONG + TEST), attacked=True)
    assert run.seconds("10") == pytest.approx(3 * (LONG + TEST), rel=0.1)


def test_tests_that_attack_nothing_teach_no_pace() -> None:
    run = left([], [SQUARE])
    run.finish("0", 1000.0, attacked=False)
    assert run.seconds("1") == LONG + TEST


def test_a_running_attack_teaches_its_pace() -> None:
    run = left([("int8", "autoattack")])
    whole = COSTS["autoattack"] + TEST
    assert run.seconds("0", so_far=5.0 * whole, part=0.5) == pytest.approx(5 * whole, rel=0.15)
    assert run.seconds("0", so_far=10.0 * whole, part=1.0) == 0


def test_a_run_of_many_paces_is_foreseen_within_a_factor_of_two() -> None:
    """Real attacks take from a third of the table to three times as long, and the first compile."""
    rng = np.random.default_rng(0)
    names = rng.choice([name for name in COSTS if COSTS[name] < 150], 60)
    run = left(*([(f"m{i}", name)] for i, name in enumerate(names)))
    seconds = [COSTS[name] * 3 ** rng.uniform(-1, 1) for name in names]
    seconds[0] += 15
    for i in range(50):
        assert 0.5 < run.seconds(str(i)) / sum(seconds[i:]) < 2
        run.finish(str(i), seconds[i], attacked=True)


class Item(SimpleNamespace):
    """A collected test of the suite: its parameters and its markers."""

    def get_closest_marker(self, name: str) -> Any:
        return self.markers.get(name)


def asked(*, markers: dict[str, tuple] | None = None, **params: str) -> set[tuple[str, str]]:
    """The attacks of a test with these markers and parameters, in a run of two widths."""
    defense = SimpleNamespace(name="sat", models={"float32": None, "int8": None})
    subjects = SimpleNamespace(given={"float32": None, "int8": None}, defenses={"sat": defense})
    runs = ("pgd-2/255", "pgd-8/255", "deepfool", "square-linf-2/255", "square-linf-8/255")
    marks = {name: SimpleNamespace(args=args) for name, args in (markers or {}).items()}
    data = SimpleNamespace(x=np.zeros((8, 1)))
    session = SimpleNamespace(
        subjects=subjects,
        attacks=SimpleNamespace(runs=runs),
        data=(data.x, None),
        is_kept=lambda model, attack: False,
    )
    item = Item(nodeid="t", callspec=SimpleNamespace(params=params), markers=marks)
    run = time_left.of_run([item], session)  # type: ignore[list-item, arg-type]
    return set(run._tests["t"])


def test_tests_of_the_suite_ask_for_what_their_names_say() -> None:
    assert asked(qnn_model="int8", qnn_attack="pgd-8/255") == {("int8", "pgd-8/255")}
    transfer = asked(qnn_model="int8", qnn_attack="deepfool", markers={"qnn_transfer": ()})
    assert transfer == {("float32", "deepfool")}
    together = asked(markers={"qnn_together": ("deepfool",)})
    assert together == {("float32", "deepfool"), ("int8", "deepfool")}
    squeezed = asked(qnn_model="int8", name="pgd", markers={"qnn_squeezed": ()})
    assert squeezed == {("squeezed/int8", "pgd-2/255")}
    direct = asked(qnn_defense="sat", name="square-linf")
    assert direct == {(f"sat/{width}", "square-linf-2/255") for width in ("float32", "int8")}
    assert asked(qnn_defense="sat", name="deepfool") == {("sat/float32", "deepfool")}


def test_other_tests_and_attacks_that_are_left_out_ask_for_none() -> None:
    assert asked() == asked(qnn_model="int8") == asked(qnn_model="int8", name="zoo") == set()
