"""What a run was held to, as the page lists it: requirements, and cells beside the baseline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_qnnrobust.report.matrix import failures
from pytest_qnnrobust.results.document import CompareRecord, RequirementRecord, Results

Kind = Literal["bad", "accepted", "open", "good"]

TEST = re.compile(r"test_(?P<kind>\w+)\[(?P<subject>.*)\]", re.DOTALL)
"""The test of a requirement, such as `test_baseline[int8-pgd-direct]`."""
CHANGE = re.compile(
    r"now (?P<now>\S+(?: %)?) against recorded (?P<before>\S+?(?: %)?)(?P<rest>[, ].*)", re.DOTALL
)
"""The words of a comparison: `now 43.0 % against recorded 50.0 %, difference ...`."""


@dataclass(frozen=True)
class Judged:
    """One requirement or compared number; `before` and `now` are its values where two are told."""

    kind: Kind
    word: str
    name: str
    text: str
    accepted: str = ""
    before: str = ""
    now: str = ""


@dataclass(frozen=True)
class Listing:
    """What is to be seen at once, the worst first, and what holds; `counts` says how many."""

    counts: str
    shown: tuple[Judged, ...]
    held: tuple[Judged, ...]

    def __bool__(self) -> bool:
        return bool(self.shown or self.held)


def requirements(results: Results) -> Listing:
    """The requirements of a run, without those that the comparison with the baseline shows."""
    compared = {f"test_baseline[{record.cell}]" for record in results.comparison or ()}
    own = [record for record in results.requirements if record.name not in compared]
    listing = _listing(map(_required, own))
    if others := len(results.requirements) - len(own):
        return replace(listing, counts=f"{listing.counts}; the baseline has {others} more")
    return listing


def comparison(results: Results) -> Listing:
    """The cells of a run beside the baseline."""
    return _listing(map(_compared, results.comparison or ()))


def other_problems(results: Results) -> list[str]:
    """Reasons to fail that no requirement tells: tests of single attacks, laws, errors."""
    told = [record.name for record in results.requirements if record.value == "violated"]
    return [problem for problem in failures(results) if not any(name in problem for name in told)]


def lost(results: Results) -> bool:
    """Whether a cell is not as recorded, and nothing accepts that."""
    return any(_compared(record).kind == "bad" for record in results.comparison or ())


def _listing(judged: Iterable[Judged]) -> Listing:
    listed = list(judged)
    order: Sequence[Kind] = ("bad", "accepted", "open")
    shown = [one for kind in order for one in listed if one.kind == kind]
    held = [one for one in listed if one.kind == "good"]
    counts = Counter(one.word for one in (*shown, *held))
    said = ", ".join(f"{count} {word}" for word, count in counts.items())
    return Listing(said, tuple(shown), tuple(held))


def _required(record: RequirementRecord) -> Judged:
    kinds: dict[str, Kind] = {"violated": "bad", "open": "open", "held": "good"}
    kind: Kind = "accepted" if record.accepted else kinds[record.value]
    return _told(kind, record.value, _plain_name(record.name), record.text, record.accepted)


def _compared(record: CompareRecord) -> Judged:
    kinds: dict[str, Kind] = {"kept": "good", "inconclusive": "open"}
    kind: Kind = "accepted" if record.accepted else kinds.get(record.status, "bad")
    word = "open" if kind == "open" else record.status
    return _told(kind, word, record.name, record.text, record.accepted)


def _told(kind: Kind, word: str, name: str, text: str, accepted: str) -> Judged:
    """The record with what changed taken out of its words, where they say that first."""
    word = "accepted" if kind == "accepted" else word
    change = CHANGE.fullmatch(text)
    if change is None:
        return Judged(kind, word, name, text, accepted)
    rest = change["rest"].lstrip(", ")
    return Judged(kind, word, name, rest, accepted, change["before"], change["now"])


def _plain_name(name: str) -> str:
    """The requirement in words: `robust accuracy: int8-worst-8/255`, not the name of its test."""
    test = TEST.fullmatch(name)
    return f"{test['kind'].replace('_', ' ')}: {test['subject']}" if test else name
