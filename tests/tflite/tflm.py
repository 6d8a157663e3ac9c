"""The oracle: TensorFlow Lite Micro's own interpreter, from the `tflite-micro` wheel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

ARENA_BYTES = 4_000_000


def run_tflm(
    model: bytes, batches: Sequence[np.ndarray], arena_size: int = ARENA_BYTES
) -> np.ndarray:
    """Run each sample alone (TFLM knows batch 1 only) and stack the first outputs.

    `batches` holds one (N, ...) array per model input. Skips the test where the wheel is absent.
    """
    return run_tflm_outputs(model, batches, 1, arena_size)[0]


def run_tflm_outputs(
    model: bytes, batches: Sequence[np.ndarray], count: int, arena_size: int = ARENA_BYTES
) -> list[np.ndarray]:
    """The same of the first `count` outputs, each (N, ...)."""
    reason = "the oracle wheel tflite-micro is not installed"
    runtime = pytest.importorskip("tflite_micro", reason=reason).runtime
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_size)
    outputs: list[list[np.ndarray]] = [[] for _ in range(count)]
    for sample in zip(*batches, strict=True):
        for position, values in enumerate(sample):
            interpreter.set_input(values[None], position)
        interpreter.invoke()
        for position, collected in enumerate(outputs):
            collected.append(np.array(interpreter.get_output(position)))
    return [np.concatenate(collected) for collected in outputs]
