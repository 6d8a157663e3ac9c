"""Which tests are part I of N, for machines that know nothing of each other (--qnn-shard)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

ATTACK_PARAMETERS = ("qnn_attack", "name")
"""The parameters of the shipped suite that hold an attack's id."""

TOGETHER = "qnn_together"
"""The marker of a test that asks for cells of the attack in its argument."""


def group(item: pytest.Item) -> str:
    """What has to stay on one machine: all tests of an attack, which share its cells."""
    marker = item.get_closest_marker(TOGETHER)
    if marker is not None and marker.args:
        return str(marker.args[0])
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    for name in ATTACK_PARAMETERS:
        if isinstance(parameters.get(name), str):
            return str(parameters[name])
    return item.nodeid.partition("[")[0]


def split(
    items: Sequence[pytest.Item], part: int, parts: int
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests of part `part`, from 1, and the others.

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
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item, name in zip(items, groups_of_items, strict=True):
        (kept if name in mine else left).append(item)
    return kept, left
