"""Quantizers of the literature, in NumPy and as Keras 3 layers, and the laws that each must keep.

Public names load on first use: importing this package imports neither NumPy nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_qnnrobust.exports import on_first_use

if TYPE_CHECKING:
    from pytest_qnnrobust.quantizers.adapters import Function as Function
    from pytest_qnnrobust.quantizers.adapters import KerasAbsMax as KerasAbsMax
    from pytest_qnnrobust.quantizers.adapters import KerasFakeQuant as KerasFakeQuant
    from pytest_qnnrobust.quantizers.affine import Affine as Affine
    from pytest_qnnrobust.quantizers.affine import AffineQuantizer as AffineQuantizer
    from pytest_qnnrobust.quantizers.affine import affine_parameters as affine_parameters
    from pytest_qnnrobust.quantizers.base import Quantizer as Quantizer
    from pytest_qnnrobust.quantizers.binary import Binary as Binary
    from pytest_qnnrobust.quantizers.binary import Ternary as Ternary
    from pytest_qnnrobust.quantizers.check import LAWS as LAWS
    from pytest_qnnrobust.quantizers.check import QuantizerLawError as QuantizerLawError
    from pytest_qnnrobust.quantizers.check import Report as Report
    from pytest_qnnrobust.quantizers.check import check_nested as check_nested
    from pytest_qnnrobust.quantizers.check import check_quantizer as check_quantizer
    from pytest_qnnrobust.quantizers.dorefa import DoReFaActivations as DoReFaActivations
    from pytest_qnnrobust.quantizers.dorefa import DoReFaWeights as DoReFaWeights
    from pytest_qnnrobust.quantizers.dorefa import dorefa_weights as dorefa_weights
    from pytest_qnnrobust.quantizers.jacobian import JacobianRegularized as JacobianRegularized
    from pytest_qnnrobust.quantizers.jacobian import jacobian_norm as jacobian_norm
    from pytest_qnnrobust.quantizers.jacobian import layer_norms as layer_norms
    from pytest_qnnrobust.quantizers.layers import QuantizedActivation as QuantizedActivation
    from pytest_qnnrobust.quantizers.layers import QuantizedConv2D as QuantizedConv2D
    from pytest_qnnrobust.quantizers.layers import QuantizedDense as QuantizedDense
    from pytest_qnnrobust.quantizers.layers import (
        QuantizedDepthwiseConv2D as QuantizedDepthwiseConv2D,
    )
    from pytest_qnnrobust.quantizers.memory import Footprint as Footprint
    from pytest_qnnrobust.quantizers.memory import memory_footprint as memory_footprint
    from pytest_qnnrobust.quantizers.specs import create as create
    from pytest_qnnrobust.quantizers.stochastic import StochasticBinary as StochasticBinary
    from pytest_qnnrobust.quantizers.stochastic import StochasticTernary as StochasticTernary

_HOMES = {
    "Affine": "affine",
    "AffineQuantizer": "affine",
    "Binary": "binary",
    "DoReFaActivations": "dorefa",
    "DoReFaWeights": "dorefa",
    "Footprint": "memory",
    "Function": "adapters",
    "JacobianRegularized": "jacobian",
    "KerasAbsMax": "adapters",
    "KerasFakeQuant": "adapters",
    "LAWS": "check",
    "QuantizedActivation": "layers",
    "QuantizedConv2D": "layers",
    "QuantizedDense": "layers",
    "QuantizedDepthwiseConv2D": "layers",
    "Quantizer": "base",
    "QuantizerLawError": "check",
    "Report": "check",
    "StochasticBinary": "stochastic",
    "StochasticTernary": "stochastic",
    "Ternary": "binary",
    "affine_parameters": "affine",
    "check_nested": "check",
    "check_quantizer": "check",
    "create": "specs",
    "dorefa_weights": "dorefa",
    "jacobian_norm": "jacobian",
    "layer_norms": "jacobian",
    "memory_footprint": "memory",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
