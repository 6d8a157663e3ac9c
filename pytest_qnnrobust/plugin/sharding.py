"""Division of the tests among machines that know nothing of each other (--qnn-shard I/N)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_qnnrobust.evaluation.cells import split_budget

ATTACK_PARAMETERS = ("qnn_attack", "name")
"""The parameters of the shipped suite that hold an attack's id."""

TOGETHER = "qnn_together"
"""The marker of a test that asks for cells of the attack in its argument."""


def group(item: pytest.Item) -> str:
    """Name of the group that stays on one machine: an attack, whose cells several tests share."""
    marker = item.get_closest_marker(TOGETHER)
    if marker is not None and marker.args:
        return str(marker.args[0])
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    for name in ATTACK_PARAMETERS:
        if isinstance(parameters.get(name), str):
            return split_budget(parameters[name])[0]
    return item.nodeid.partition("[")[0]


def split(
    items: Sequence[pytest.Item], part: int, parts: int
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Split tests into those of part `part` of `parts`, counted from 1, and the others.

    Groups are dealt out in turn, those of attacks first. Raises pytest.UsageError where there are
    more parts than groups: an empty part would be neither green nor red.
    """
    groups_of_items = [group(item) for item in items]
    groups = list(dict.fromkeys(groups_of_items))
    groups.sort(key=lambda name: "::" in name)
    if parts > len(groups):
        cure = "the tests of one attack stay together"
        raise pytest.UsageError(
            f"expected --qnn-shard I/N with N <= {len(groups)}, got {part}/{parts}; {cure}"
        )
    mine = set(groups[part - 1 :: parts])
    selected: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item, name in zip(items, groups_of_items, strict=True):
        (selected if name in mine else others).append(item)
    return selected, others
