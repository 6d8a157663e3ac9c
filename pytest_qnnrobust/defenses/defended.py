"""A defence and the network behind it, as one model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.defenses.feature_squeezing import FeatureSqueezing
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.models.base import Model, Wrapper
from pytest_qnnrobust.models.integer import IntegerModel
from pytest_qnnrobust.types import Float, Labels


class Defended(Wrapper):
    """The model `base` behind the defence `defense`, as a device that runs both decides.

    An attack on it is adaptive: it queries the defended model, and its gradients pass the defence
    backwards (BPDA, see `FeatureSqueezing.backward`). Examples made for `base` and given to this
    model are the weaker evaluation that "David and Goliath" makes (section 4).
    """

    def __init__(self, base: Model, defense: FeatureSqueezing) -> None:
        super().__init__(base)
        self.name = f"{base.name} + {defense}"
        self.defense = defense
        self.digest = f"{base.digest}-{defense}" if base.digest else None

    @property
    def surrogate(self) -> Model:
        twin = self.base.surrogate
        return self if twin is self.base else Defended(twin, self.defense)

    def predict_quantized(self, xq: NDArray[Any]) -> NDArray[Any]:
        """Input integers (N, *input_shape) -> output integers (N, classes), as the device has them.

        Raises QnnRobustError where `base` is no integer model run by TFLM's arithmetic.
        """
        if self.grid is None or not isinstance(self.base, IntegerModel):
            raise expected("an integer model run by TFLM's arithmetic", model=self.base.name)
        self.queries += len(xq)
        squeezed = self.defense.squeeze_quantized(np.asarray(xq), self.bounds, self.grid)
        return self.base.predict_quantized(squeezed)

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        return self.base._evaluate(self._squeezed(x))

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        logits, value, gradient = self.base._loss_gradient(self._squeezed(x), y, rival, loss)
        return logits, value, self._backward(x, gradient)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        logits, jacobian = self.base._jacobian(self._squeezed(x), weights)
        sums = [self._backward(x, jacobian[:, m]) for m in range(jacobian.shape[1])]
        return logits, np.stack(sums, axis=1)

    def _squeezed(self, x: Float) -> Float:
        return self.defense(x, self.bounds, self.grid)

    def _backward(self, x: Float, gradient: Float) -> Float:
        return self.defense.backward(x, gradient, self.bounds, self.grid)
