"""Contents of the figures: PGD at several strengths, and images with what attacks did to them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import MissingError
from pytest_qnnrobust.tables.cells import FIGURE_1, GRIDS, PLAIN, TableCell
from pytest_qnnrobust.tables.figures import Curve, Triplet
from pytest_qnnrobust.tables.measure import Conditions
from pytest_qnnrobust.types import WIDTHS

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 2.5, 3.75, 5.0, 7.5, 10.0)
"""Linf budgets of Figure 1 as multiples of PGD's: the paper's range, and on to two int8 steps."""

SHOWN = ("boundary", "square-linf")
"""Attacks that have a grid of images, of `IMAGES` rows."""

IMAGES = 4
"""Largest number of images in a grid."""


def curves(session: Session, conditions: Conditions) -> list[Curve]:
    """Curves of all widths under PGD's examples for the float network, at every strength."""
    models = _models(session)
    cell = TableCell(FIGURE_1, PLAIN, "transfer", "pgd", "float32")
    samples = conditions.samples_of(session, cell)
    attacks = [_pgd(session, strength) for strength in STRENGTHS]
    drawn = []
    for width, model in models.items():
        linf, right = [0.0], [session.right_on_clean(model)[:samples]]
        for attack in attacks:
            source = session.evaluate(session.cells.cell(models["float32"], attack), samples, False)
            mode = "direct" if width == "float32" else "transfer"
            outcome = session.evaluate(session.cells.cell(model, attack, mode), samples, False)
            linf.append(float(source.linf[source.clean_correct].mean()))
            right.append(outcome.adv_label == outcome.label)
        drawn.append(Curve(width, np.array(linf), right))
    return drawn


def triplets(session: Session, name: str, conditions: Conditions) -> list[Triplet]:
    """The first images that every width is right on and the attack fooled them all with.

    None of them where the inputs are no images.
    """
    models = _models(session)
    shape = models["float32"].input_shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[-1] not in (1, 3)):
        return []
    samples = conditions.samples_of(session, TableCell(GRIDS, PLAIN, "direct", name, ""))
    attack = session.attacks.attack(name)
    crafted = {width: session.craft(model, attack, samples) for width, model in models.items()}
    right = [session.right_on_clean(model)[:samples] for model in models.values()]
    fooled = np.logical_and.reduce([*right, *(result.success for result in crafted.values())])
    low, high = session.subjects.bounds
    images = []
    for i in np.flatnonzero(fooled)[:IMAGES]:
        label = int(session.data.y[i])
        images.append(
            Triplet(
                (session.data.x[i] - low) / (high - low),
                {w: (result.x_adv[i] - low) / (high - low) for w, result in crafted.items()},
                {w: (label, int(result.adv_label[i])) for w, result in crafted.items()},
            )
        )
    return images


def _models(session: Session) -> dict[str, Model]:
    """The models of all widths that there are; float32 is one of them."""
    models: dict[str, Model] = {}
    for width in WIDTHS:
        with suppress(MissingError):
            models[width] = session.subject(width).model
    return models


def _pgd(session: Session, strength: float) -> Attack:
    attack = cast(Any, session.attacks.attack("pgd"))
    eps = min(strength * attack.eps, session.attacks.span)
    return cast(Attack, replace(attack, eps=eps, step=attack.step * eps / attack.eps))
