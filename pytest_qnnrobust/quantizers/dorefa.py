"""DoReFa-Net: Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with
Low Bitwidth Gradients" (2016).

Equation 5, quantize_k: r in [0, 1] -> round((2**k - 1) * r) / (2**k - 1). Rounding is half to even,
as in the authors' code (`tf.round`). What is rounded is computed in float64, and so are the values
of the codes before they become float32: the Keras layers return the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.quantizers.binary import Binary

MOST_BITS = 16


def levels(bits: int, least: int = 1) -> int:
    """2**bits - 1, the largest code; raises QnnRobustError for bits out of `least`..16."""
    if not least <= bits <= MOST_BITS:
        raise expected(f"bits from {least} to {MOST_BITS}", bits=bits)
    return (1 << bits) - 1


def dorefa_weights(bits: int) -> DoReFaWeights | Binary:
    """The quantizer of weights: equation 7 for 1 bit, equation 9 for more."""
    levels(bits)
    return Binary() if bits == 1 else DoReFaWeights(bits)


@dataclass(frozen=True)
class DoReFaActivations:
    """Equation 11 on the bounded activation: quantize_k(clip(x, 0, 1)).

    Affine: `scale` is 1 / (2**bits - 1), codes 0..2**bits - 1. NaN becomes 0.
    """

    bits: int

    zero_point: ClassVar[int] = 0
    minimum: ClassVar[int] = 0
    rounding: ClassVar[str] = "half_even"
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        levels(self.bits)

    @property
    def maximum(self) -> int:
        return levels(self.bits)

    @property
    def scale(self) -> float:
        return 1 / levels(self.bits)

    @property
    def dtype(self) -> str:
        return _dtype(self.bits)

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        bounded = np.clip(np.nan_to_num(np.asarray(x, np.float64)), 0.0, 1.0)
        return np.asarray(np.rint(bounded * levels(self.bits)).astype(self.dtype))

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        return (np.asarray(q, np.float64) / levels(self.bits)).astype(np.float32)


@dataclass(frozen=True)
class DoReFaWeights:
    """Equation 9: 2 * quantize_k(tanh(w) / (2 * max |tanh w|) + 1/2) - 1, for 2 to 16 bits.

    Code q stands for 2 * q / (2**bits - 1) - 1: 0 is no value, the two codes nearest to it are as
    far on either side. `peak` is max |tanh w| of the tensor (`fit`); without it `quantize` takes
    that of its argument. `warp` is what is rounded, on the scale of the values: tanh(x) / peak.
    """

    bits: int
    peak: float | None = None

    minimum: ClassVar[int] = 0
    rounding: ClassVar[str] = "half_even"
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        levels(self.bits, least=2)
        if self.peak is not None and not 0 < self.peak <= 1:
            raise expected("peak, the largest |tanh w|, in (0, 1]", peak=self.peak)

    @property
    def maximum(self) -> int:
        return levels(self.bits)

    @property
    def dtype(self) -> str:
        return _dtype(self.bits)

    @property
    def fitted(self) -> bool:
        return self.peak is not None

    def fit(self, x: NDArray[Any]) -> DoReFaWeights:
        """The quantizer of tensor `x`; a tensor of zeros has peak 1."""
        peak = float(np.max(np.abs(np.tanh(np.asarray(x, np.float64))), initial=0.0))
        return replace(self, peak=peak or 1.0)

    def warp(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """tanh(x) / peak in [-1, 1]; beyond the fitted tensor it saturates."""
        if self.peak is None:
            return self.fit(x).warp(x)
        warped = np.tanh(np.asarray(x, np.float64)) / self.peak
        return np.asarray(np.clip(np.nan_to_num(warped), -1.0, 1.0))

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        unit = self.warp(x) * 0.5 + 0.5
        return np.asarray(np.rint(unit * levels(self.bits)).astype(self.dtype))

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        unit = np.asarray(q, np.float64) / levels(self.bits)
        return np.asarray(2 * unit - 1).astype(np.float32)


def _dtype(bits: int) -> str:
    return "uint8" if bits <= 8 else "uint16"
