"""How long the rest of a run takes, by the attacks that are still to be computed.

Several tests ask for the outcome of one attack: the first of them computes it, the others take no
time. So each attack on each model counts once, and not at all where the cache on disk has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pytest

from pytest_qnnrobust.attacks.presets import DIRECTLY
from pytest_qnnrobust.evaluation.cells import split_budget
from pytest_qnnrobust.run.cell_names import SQUEEZED
from pytest_qnnrobust.run.session import Session

COSTS = {
    "noise": 5, "fgsm": 10, "bim": 15, "pgd": 15, "deepfool": 60, "square-l1": 40, "square-l2": 40,
    "square-linf": 40, "spsa": 60, "apgd-ce": 20, "apgd-t": 40, "fab": 30, "fab-t": 40, "jsma": 40,
    "uap": 40, "cw-linf": 150, "hopskipjump": 150, "boundary": 100, "geoda": 150, "zoo": 200,
    "autoattack": 300,
}  # fmt: skip
"""About how long an attack on 100 samples takes beside others; one that is not named, `USUAL`."""

USUAL = 60
TEST = 2
"""About how long a test takes beside its attacks, in the same measure."""

PACE = 0.01
"""About how many seconds a cost of 1 takes per cube root of the number of input elements."""

TRUST = 0.05
"""The part of a run whose attacks are believed as much as `PACE`: the first ones compile."""

SANITY = "sanity"

Unit = tuple[str, str]
"""A model and an attack with its budget, by name: what is computed once."""


class TimeLeft:
    """The tests of a run, each with the attacks that it asks for, and the pace so far.

    `known` are the attacks that need not be computed, `pace` the seconds of a cost of 1, as a first
    guess.
    """

    def __init__(
        self,
        tests: Mapping[str, Collection[Unit]],
        known: Iterable[Unit] = (),
        samples: int = 100,
        pace: float = PACE,
    ) -> None:
        self._tests = {test: frozenset(units) for test, units in tests.items()}
        self._known = set(known)
        self._samples = samples
        self._cost = TRUST * self._cost_of(self._tests.values())
        self._seconds = pace * self._cost

    def attacks_of(self, test: str) -> int:
        """Number of the attacks that a test has to compute."""
        return len(self._tests.get(test, frozenset()) - self._known)

    def to_come(self, test: str) -> int:
        """Number of the tests in the module of this one that are not over."""
        module = test.partition("::")[0]
        return sum(other.partition("::")[0] == module for other in self._tests)

    def finish(self, test: str, seconds: float, attacked: bool) -> None:
        """Note that a test is over, and learn from its seconds where it ran an attack."""
        units = self._tests.pop(test, frozenset())
        if attacked:
            self._seconds += seconds
            self._cost += self._cost_of([units])
        self._known |= units

    def seconds(self, test: str, so_far: float = 0.0, part: float = 0.0) -> float:
        """Seconds that the rest of the run takes while `test` runs, of which `part` is done after
        `so_far` seconds.
        """
        done = part * self._cost_of([self._tests.get(test, frozenset())])
        pace = (self._seconds + so_far * bool(part)) / max(self._cost + done, TEST)
        return (self._cost_of(self._tests.values()) - done) * pace

    def _cost_of(self, tests: Collection[Collection[Unit]]) -> float:
        attacks = {unit for units in tests for unit in units} - self._known
        costs = (COSTS.get(split_budget(attack)[0], USUAL) for _, attack in attacks)
        return TEST * len(tests) + sum(costs) * self._samples / 100


def of_run(items: Iterable[pytest.Item], session: Session) -> TimeLeft:
    """The time that these tests take, which have data to attack."""
    runs = session.attacks.runs
    tests = {item.nodeid: _units(item, session, runs) for item in items}
    known = {unit for units in tests.values() for unit in units if session.is_kept(*unit)}
    x, _ = session.data
    return TimeLeft(tests, known, len(x), PACE * x[0].size ** (1 / 3))


def _units(item: pytest.Item, session: Session, runs: Sequence[str]) -> frozenset[Unit]:
    """The attacks whose outcomes a test of the suite asks for; none for any other test."""
    parameters = _parameters(item)
    together = item.get_closest_marker("qnn_together")
    asked = parameters.get("qnn_attack") or parameters.get("name")
    asked = asked or (together.args[0] if together else "")
    attack = next((run for run in runs if asked in (run, split_budget(run)[0])), None)
    return frozenset((model, attack) for model in _models(item, session)) if attack else frozenset()


def _models(item: pytest.Item, session: Session) -> list[str]:
    """The models that a test of the suite attacks, as `session.cells` names them."""
    parameters = _parameters(item)
    width, name = parameters.get("qnn_model"), parameters.get("name")
    plain = [width] if width else list(session.subjects.given)
    defense = session.subjects.defenses.get(parameters.get("qnn_defense", ""))
    if defense is not None:
        defended = [f"{defense.name}/{width}" for width in defense.models]
        if name is None:
            return plain + defended
        return [model for model in defended if name in DIRECTLY or model.endswith("/float32")]
    if item.get_closest_marker("qnn_transfer"):
        return ["float32"]
    if item.get_closest_marker("qnn_sanity"):
        # Several attacks on fewer samples, with settings of their own.
        return [f"{SANITY} {n}/{width}" for width in plain for n in (1, 2)]
    if item.get_closest_marker("qnn_squeezed") and width and name:
        return [f"{SQUEEZED}/{width}"]
    return plain


def _parameters(item: pytest.Item) -> Mapping[str, str]:
    return getattr(getattr(item, "callspec", None), "params", {})
