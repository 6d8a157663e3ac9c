"""docs/attacks.md lists every attack as its class describes itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.metrics import norm_name

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"


def table():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def test_every_attack_is_listed_and_nothing_else():
    assert set(table()) - {"art:NAME"} == set(attacks.available())


@pytest.mark.parametrize("name", attacks.available())
def test_norms_and_knowledge_are_those_of_the_class(name):
    attack = attacks.create(name)
    _, _, norms, knowledge, _ = table()[name]
    if len(attack.norms) > 1 and not name.startswith("square"):
        assert norms.lower() == ", ".join(norm_name(norm) for norm in attack.norms)
    else:
        norm = getattr(attack, "norm", attack.norms[0])
        assert norms.lower().startswith(norm_name(norm))
    assert knowledge == attack.knowledge
