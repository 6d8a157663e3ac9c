"""Every name that 0.1.0 made public is there, and is one thing wherever it is imported from."""

from __future__ import annotations

from importlib import import_module

import pytest

NAMES = {
    "pytest_qnnrobust": """
        Cell Data Model Outcome QnnRobustError attacks check_quantizer convert defenses evaluate
        load_data load_model strategies __version__
    """,
    "pytest_qnnrobust.attacks": """
        APGD APGDT BIM EAD FAB FGSM JSMA NAMES PGD PRESETS PROFILES SPSA UAP ZOO ArtAttack
        ArtBudgetAttack Attack AttackResult AutoAttack BoundaryAttack CarliniL0 CarliniL2
        CarliniLinf DeepFool FixedBudgetAttack GeoDA HopSkipJump MinimalDistortionAttack
        NoiseAttack Progress SquareAttack Streams Target attack_id available create default
        is_known preset
    """,
    "pytest_qnnrobust.data": "Data load_data",
    "pytest_qnnrobust.defenses": "Cost Defended FeatureSqueezing SqueezingDetector",
    "pytest_qnnrobust.demo": "demo_path",
    "pytest_qnnrobust.errors": """
        AttackError DataError ModelFileError QnnRobustError UnsupportedOperatorError
    """,
    "pytest_qnnrobust.evaluation": "Cell Evaluator Mode Outcome evaluate",
    "pytest_qnnrobust.metrics": "adversarial_accuracy distances evasion_rate lp_norm mean_distance",
    "pytest_qnnrobust.models": """
        CHUNK Gradient GradientSource InputGrid Model Runtime Scores Width Wrapper load_model
    """,
    "pytest_qnnrobust.quantizers": """
        Affine AffineQuantizer Binary DoReFaActivations DoReFaWeights Footprint Function
        JacobianRegularized KerasAbsMax KerasFakeQuant LAWS QuantizedActivation QuantizedConv2D
        QuantizedDense QuantizedDepthwiseConv2D Quantizer QuantizerLawError Report
        StochasticBinary StochasticTernary Ternary affine_parameters check_nested check_quantizer
        create dorefa_weights jacobian_norm layer_norms memory_footprint
    """,
    "pytest_qnnrobust.strategies": """
        Activation Add AffineParameters AveragePool2D Concatenation Conv2D DepthwiseConv2D
        Described ExpandDims Flatten FullyConnected HardSwish LeakyRelu Logistic MaxPool2D Mean
        Mul Multiplier PRelu Pack Pad Quantize ReduceMax Relu Relu6 Reshape SmallGraph
        SmallNetwork SmallOperator Softmax Squeeze StridedSlice Sub Tanh Transpose graph_inputs
        keras_models probing_tensors probing_values quantization_parameters
        requantization_multipliers tflite_graphs
    """,
}
LISTED = ("", ".attacks", ".defenses", ".quantizers", ".strategies")
"""The packages that said in `__all__` what is public."""


@pytest.mark.parametrize("module", NAMES)
def test_names_of_0_1_0_can_be_imported(module: str) -> None:
    home = import_module(module)
    missing = [name for name in NAMES[module].split() if not hasattr(home, name)]
    assert not missing


@pytest.mark.parametrize("module", [f"pytest_qnnrobust{suffix}" for suffix in LISTED])
def test_names_of_0_1_0_are_listed(module: str) -> None:
    public = {name for name in NAMES[module].split() if not name.startswith("__")}
    assert public <= set(import_module(module).__all__)


def test_a_name_is_the_same_object_at_the_top_and_at_home() -> None:
    top = import_module("pytest_qnnrobust")
    for home in ("data", "evaluation", "models", "quantizers"):
        names = NAMES[f"pytest_qnnrobust.{home}"].split()
        for name in set(names) & set(NAMES["pytest_qnnrobust"].split()):
            assert getattr(top, name) is getattr(import_module(f"pytest_qnnrobust.{home}"), name)
