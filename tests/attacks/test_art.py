"""ART's attacks on our models, graded by us, and our models as classifiers of ART."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust.attacks.art import estimators, wrapper
from pytest_qnnrobust.errors import AttackError
from pytest_qnnrobust.models.load import load_model
from tests.attacks.linear import problem, quantized_problem

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed")


def small_logits(dtype, **given):
    """An integer model whose cross-entropy does not saturate."""
    model, x, y = quantized_problem(dtype, **given)
    model.weights *= model.grid.scale / 2
    model.bias *= model.grid.scale / 2
    return model, x, y


MODELS = {
    "float": lambda **given: problem(**{"classes": 3, **given}),
    "int8": lambda **given: small_logits("int8", **given),
    "int16": lambda **given: small_logits("int16", **given),
}
QUICK = {
    "AutoProjectedGradientDescent": {"eps": 0.1, "eps_step": 0.02, "max_iter": 5},
    "BoundaryAttack": {"max_iter": 3, "num_trial": 3, "sample_size": 4},
    "DeepFool": {"max_iter": 10},
    "FastGradientMethod": {"eps": 0.05},
    "HopSkipJump": {"max_iter": 2, "init_eval": 4, "max_eval": 20},
    "NewtonFool": {"max_iter": 30, "output": "probabilities"},
    "PixelAttack": {"max_iter": 1, "th": 3, "es": 1},
    "SaliencyMapMethod": {"theta": 0.3},
    "SquareAttack": {"eps": 0.05, "max_iter": 5},
    "UniversalPerturbation": {"eps": 0.05, "max_iter": 2},
}


@pytest.mark.parametrize("width", MODELS)
def test_our_model_as_a_classifier_answers_as_the_model_does(width):
    model, x, y = MODELS[width]()
    classifier = wrapper.classifier(model)
    assert classifier.nb_classes == model.classes
    assert classifier.input_shape == model.input_shape
    np.testing.assert_array_equal(classifier.clip_values, np.float32(model.bounds))
    np.testing.assert_array_equal(classifier.predict(x, batch_size=3), model.logits(x))
    np.testing.assert_array_equal(
        wrapper.classifier(model, output="tensor").predict(x), model.predict(x)
    )
    one_hot = np.eye(model.classes)[y]
    expected = model.loss_gradient(x, y)
    for labels in (y, y[:, None], one_hot):
        np.testing.assert_array_equal(classifier.loss_gradient(x, labels), expected.gradient)
        np.testing.assert_allclose(
            classifier.compute_loss(x, labels), expected.loss, rtol=1e-5, atol=1e-6
        )
    jacobian = model.jacobian(x)[1]
    np.testing.assert_array_equal(classifier.class_gradient(x), jacobian)
    np.testing.assert_array_equal(classifier.class_gradient(x, label=1), jacobian[:, 1:2])
    chosen = jacobian[np.arange(len(x)), y][:, None]
    np.testing.assert_array_equal(classifier.class_gradient(x, label=y), chosen)


@pytest.mark.parametrize(
    "file", ["digits_float.keras", "digits_int16.tflite", "digits_int8.tflite"]
)
def test_a_network_from_a_file_is_attacked_from_both_sides(file):
    from art.attacks.evasion import FastGradientMethod

    model = load_model(FIXTURES / file, bounds=(0.0, 255.0))
    data = np.load(FIXTURES / "digits.npz")
    x, y = data["x"][:8].astype(np.float32), data["y"][:8].astype(np.int64)
    classifier = wrapper.classifier(model)
    np.testing.assert_array_equal(classifier.predict(x), model.logits(x))
    gradient = model.loss_gradient(x, y).gradient
    assert gradient.any()
    np.testing.assert_array_equal(classifier.loss_gradient(x, y), gradient)
    eps = 0.3 * (model.bounds[1] - model.bounds[0])
    by_hand = FastGradientMethod(classifier, eps=eps).generate(x, y)
    result = wrapper.create("FastGradientMethod", eps=eps)(model, x, y)
    assert (model.classify(by_hand) != y).sum() >= 4
    assert result.success.sum() >= 4
    assert (result.linf <= eps * (1 + 1e-6)).all()


def test_gradients_of_probabilities_are_those_of_their_values():
    model, x, _ = problem((6,), classes=3)
    classifier = wrapper.classifier(model, output="probabilities")
    np.testing.assert_allclose(classifier.predict(x).sum(axis=1), 1.0, rtol=1e-6)
    gradient = classifier.class_gradient(x)
    step = np.float32(1e-2)
    for element in range(6):
        moved = np.zeros(6, np.float32)
        moved[element] = step
        slope = (classifier.predict(x + moved) - classifier.predict(x - moved)) / (2 * step)
        np.testing.assert_allclose(gradient[:, :, element], slope, atol=2e-3)


def test_a_soft_label_mixes_the_gradients_of_its_classes():
    model, x, _ = problem((6,), classes=3)
    classifier = wrapper.classifier(model)
    share = np.tile(np.float32([0.5, 0.25, 0.25]), (len(x), 1))
    parts = [classifier.loss_gradient(x, np.full(len(x), k)) * share[0, k] for k in range(3)]
    np.testing.assert_allclose(classifier.loss_gradient(x, share), sum(parts), atol=1e-5)


def test_a_model_without_gradients_is_a_black_box_to_art():
    model, _, _ = problem()
    model.differentiable = False
    assert not hasattr(wrapper.classifier(model), "class_gradient")
    assert not hasattr(wrapper.classifier(problem()[0], output="tensor"), "loss_gradient")


@pytest.mark.parametrize("width", MODELS)
@pytest.mark.parametrize("name", QUICK)
def test_art_attacks_are_graded_and_do_not_depend_on_the_batch(name, width):
    model, x, y = MODELS[width](samples=4)
    attack = wrapper.create(name, **QUICK[name])
    whole = attack(model, x, y, seed=3)
    np.testing.assert_array_equal(whole.success, model.classify(whole.x_adv) != y)
    assert whole.success.any()
    assert (whole.queries + whole.gradients).all()
    assert (whole.x_adv >= model.bounds[0] - 1e-6).all()
    assert (whole.x_adv <= model.bounds[1] + 1e-6).all()
    if "eps" in QUICK[name]:
        assert (whole.linf <= attack.eps * (1 + 1e-6)).all()
    order = np.array([2, 0, 3, 1])
    again = attack(model, x[order], y[order], seed=3, index=order, batch_size=3)
    np.testing.assert_array_equal(again.x_adv, whole.x_adv[order])
    np.testing.assert_array_equal(again.queries, whole.queries[order])


@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(9, 5, 1), (25,)])
def test_other_shapes_and_domains(shape, bounds):
    for model, x, y in (problem(shape, 12, bounds), quantized_problem("int8", shape, 2, bounds)):
        eps = 0.2 * (bounds[1] - bounds[0])
        for attack in (
            wrapper.create("FastGradientMethod", eps=eps),
            wrapper.create("HopSkipJump"),
        ):
            result = attack(model, x[:2], y[:2], query_budget=60)
            np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y[:2])
            assert result.success.all()


@pytest.mark.parametrize("width", MODELS)
def test_an_art_attack_run_by_hand_finds_what_the_graded_one_returns(width):
    from art.attacks.evasion import ProjectedGradientDescentNumpy

    model, x, y = MODELS[width]()
    settings = {"eps": 0.03, "eps_step": 0.01, "max_iter": 4}
    by_hand = ProjectedGradientDescentNumpy(wrapper.classifier(model), verbose=False, **settings)
    seen = x if model.grid is None else model.grid.snap(x)
    found = by_hand.generate(seen, np.eye(model.classes)[y])
    result = wrapper.create("ProjectedGradientDescentNumpy", **settings)(model, x, y)
    step = 0 if model.grid is None else model.grid.scale
    np.testing.assert_allclose(result.x_adv, found, atol=1e-6 + step)


def test_one_linear_step_flips_exactly_the_samples_within_reach():
    model, x, y = problem(samples=40)
    distance = model.distance(x, np.inf)
    eps = float(np.median(distance))
    clear = np.abs(distance - eps) > 0.02 * eps
    result = wrapper.create("FastGradientMethod", eps=eps)(model, x, y)
    np.testing.assert_array_equal(result.success[clear], (distance < eps)[clear])


def test_deepfool_of_art_reaches_the_closed_form_distance():
    model, x, y = problem()
    result = wrapper.create("DeepFool", epsilon=1e-4)(model, x, y)
    assert result.success.all()
    np.testing.assert_allclose(result.l2, model.distance(x, 2.0), rtol=0.01)


def test_a_targeted_attack_aims_at_the_runner_up():
    model, x, y = problem(classes=12)
    result = wrapper.create("FastGradientMethod", eps=0.2, targeted=True)(model, x, y)
    logits = model.logits(x)
    logits[np.arange(len(x)), y] = -np.inf
    assert result.success.all()
    assert (result.adv_label == logits.argmax(axis=1)).mean() > 0.8
    assert (result.gradients == 1).all()


def test_global_random_state_is_left_alone():
    model, x, y = problem(samples=2)
    np.random.seed(7)
    random.seed(7)
    expected = np.random.uniform(size=3), random.random()
    np.random.seed(7)
    random.seed(7)
    random_state = np.random.RandomState
    wrapper.create("BoundaryAttack", **QUICK["BoundaryAttack"])(model, x, y)
    assert np.random.RandomState is random_state
    np.testing.assert_array_equal(np.random.uniform(size=3), expected[0])
    assert random.random() == expected[1]


def test_each_sample_spends_its_own_budget_and_keeps_what_it_saw():
    model, x, y = problem()
    result = wrapper.create("HopSkipJump")(model, x, y, query_budget=150)
    assert (result.queries <= 150).all()
    assert result.exhausted.all()
    assert result.success.all()
    free = wrapper.create("DeepFool")(model, x, y)
    enough = int((free.queries + free.gradients).max())
    capped = wrapper.create("DeepFool")(model, x, y, query_budget=enough)
    np.testing.assert_array_equal(capped.x_adv, free.x_adv)
    assert not capped.exhausted.any()


def test_a_time_budget_that_is_over_marks_every_sample():
    model, x, y = problem()
    result = wrapper.create("HopSkipJump")(model, x, y, time_budget=1e-9)
    assert result.exhausted.all()
    assert not result.success.any()


def test_ctrl_c_inside_art_keeps_finished_samples_and_what_was_seen():
    model, x, y = problem(samples=3)
    evaluate, asked = model._evaluate, []

    def interrupted(batch):
        asked.append(len(batch))
        if len(asked) == 60:
            raise KeyboardInterrupt
        return evaluate(batch)

    attack = wrapper.create("HopSkipJump", max_iter=1, init_eval=4, max_eval=8)
    attack(model, x[:1], y[:1])
    model._evaluate = interrupted
    result = attack(model, x, y)
    assert result.interrupted
    assert not result.exhausted[0]
    assert result.exhausted[-1]
    assert result.success[0]
    np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y)


def test_queries_and_gradients_are_those_of_the_model_without_the_grading():
    model, x, y = problem()
    result = wrapper.create("DeepFool")(model, x, y)
    assert model.queries == result.queries.sum() + 2 * len(x)
    assert model.gradients == result.gradients.sum()


def test_progress_bars_are_off(capfd):
    model, x, y = problem(samples=2)
    for name in ("DeepFool", "UniversalPerturbation"):
        wrapper.create(name)(model, x, y)
    assert capfd.readouterr() == ("", "")


BAD = [
    ("FGSM", {}, "expected attack to be one of ART's AutoConjugateGradient, "),
    ("FGSM", {}, "got attack='FGSM'"),
    ("AdversarialPatch", {}, "got attack='AdversarialPatch'"),
    ("DeepFool", {"steps": 3}, "a setting of ART's DeepFool (max_iter, epsilon, nb_grads, "),
    ("DeepFool", {"steps": 3}, "got setting='steps'"),
    ("DeepFool", {"max_iter": -1}, "ART's DeepFool failed with ValueError: The number of iter"),
    ("DeepFool", {"norm": 3}, "expected norm to be one of l1, l2, linf, got norm=3"),
    ("FastGradientMethod", {"eps": -1}, "expected eps to be a number > 0, got eps=-1"),
    ("DeepFool", {"output": "tensor"}, "output to be one of logits, probabilities"),
    ("DeepFool", {"max_iter": np.zeros(2)}, "expected settings of plain values"),
]


@pytest.mark.parametrize(("name", "settings", "text"), BAD)
def test_a_bad_setting_is_one_clear_line(name, settings, text):
    with pytest.raises(AttackError, match=re.escape(text)) as caught:
        wrapper.create(f"art:{name}", **settings)
    assert "\n" not in str(caught.value)


def test_a_white_box_attack_needs_gradients():
    model, x, y = problem()
    model.differentiable = False
    assert wrapper.create("HopSkipJump", max_iter=1)(model, x[:1], y[:1]).success.all()
    for name in ("NewtonFool", "UniversalPerturbation"):
        with pytest.raises(AttackError, match="differentiable model for ArtAttack"):
            wrapper.create(name)(model, x, y)


def test_a_failure_inside_art_is_one_line():
    model, x, y = problem()
    with pytest.raises(AttackError, match="ART's VirtualAdversarialMethod failed with TypeError: "):
        wrapper.ArtAttack(attack="VirtualAdversarialMethod")(model, x, y)


def test_knowledge_follows_from_what_art_asks_for():
    known = {"NewtonFool": "white", "SquareAttack": "gray", "HopSkipJump": "black"}
    for name, knowledge in known.items():
        assert wrapper.ArtAttack(attack=name).knowledge == knowledge


def test_repr_rebuilds_the_attack():
    params = {"attacker_params": {"eps": 0.1}, "attacker": "fgsm", "norm": np.inf}
    for attack in (
        wrapper.create("UniversalPerturbation", **params),
        wrapper.create("SquareAttack", norm="l2", eps=0.5),
        wrapper.ArtBudgetAttack(attack="NewtonFool", eps=0.1, settings={"eta": np.float64(0.1)}),
    ):
        rebuilt = eval(repr(attack), {"np": np} | vars(wrapper))
        assert rebuilt == attack
        assert hash(rebuilt) == hash(attack)
    assert repr(attack).endswith("attack='NewtonFool', settings={'eta': 0.1}, output='logits')")


def test_create_passes_the_budget_to_art_and_to_the_grading():
    attack = wrapper.create("art:FastGradientMethod", norm="l2", eps=0.5)
    assert (attack.norm, attack.eps) == (2.0, 0.5)
    assert dict(attack.settings) == {"norm": 2.0, "eps": 0.5}
    attack = wrapper.create("NewtonFool", eps=0.5)
    assert (attack.norm, attack.eps, dict(attack.settings)) == (np.inf, 0.5, {})
    assert attack.id == "art:NewtonFool"
    assert wrapper.create("HopSkipJump").norm == 2.0


def test_another_budget_moves_its_step_in_proportion():
    attack = wrapper.create("ProjectedGradientDescent", eps=0.2, eps_step=0.05, max_iter=7).within(
        0.02
    )
    assert attack == wrapper.create(
        "ProjectedGradientDescent", eps=0.02, eps_step=0.005, max_iter=7
    )
    default = wrapper.create("FastGradientMethod").within(0.03)
    assert (default.eps, dict(default.settings)["eps_step"]) == (0.03, pytest.approx(0.01))
    without = wrapper.create("NewtonFool")
    assert without.within(0.03) is without


def test_art_is_imported_only_when_it_is_used():
    code = "import sys, pytest_qnnrobust.attacks.art; sys.exit('art' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_art_one_line_says_how_to_get_it(monkeypatch):
    wrapper._classes.cache_clear()
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(AttackError, match="pip install adversarial-robustness-toolbox"):
        wrapper.create("NewtonFool")
    monkeypatch.undo()
    assert wrapper.create("NewtonFool")


def test_an_art_that_cannot_be_imported_is_one_line(monkeypatch, tmp_path):
    tmp_path.joinpath("broken_art.py").write_text("raise AttributeError('no numpy.bool')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttackError, match=r"cannot be imported: AttributeError: no numpy.bool; "):
        estimators.load("broken_art")


NOT_RUN = {
    "PixelAttack": "No module named 'cma'",
    "ThresholdAttack": "No module named 'cma'",
    "Wasserstein": "Overflow error",
}
"""What stands in the way of ART's attacks that do not run here: other packages, or ART itself."""


@pytest.mark.nightly
def test_every_attack_of_art_runs_by_name_or_says_why_not():
    """One test for all of them: to list their names is to import ART, at every collection."""
    for name in wrapper.available():
        runs_by_its_name_alone(name)


def runs_by_its_name_alone(name):
    model, x, y = problem((6, 6, 1), classes=3, samples=1)
    failure = ""
    try:
        result = wrapper.create(f"art:{name}")(model, x, y, query_budget=2000)
    except AttackError as error:
        failure = str(error)
    if failure:
        assert NOT_RUN[name] in failure
        assert "\n" not in failure
        return
    assert result.x_adv.shape == x.shape
    np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y)
