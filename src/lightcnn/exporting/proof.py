"""Does an artifact give what Keras gives, and how long do both take?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import ExportError
from lightcnn.exporting.examples import Batch, Examples
from lightcnn.runs import FACES, SPEECH
from lightcnn.runtimes import Artifact

__all__ = ["TOLERANCES", "Proof", "prove"]

# Precision -> the largest difference of a number, as a share of the largest number. A network of n layers that rounds
# each by u walks at random to about u sqrt(n); the worst example is up to ten times as far. Light CNN-29, the deepest:
# float16 rounds 29 layers' weights by 2^-11 (0.026), bfloat16 weights and outputs by 2^-9 (0.15). Measured on 16
# trained networks of pictures, speech and faces, the worst was 0.019 and 0.14; of 8 bits, which round by ranges, 0.22.
TOLERANCES: dict[str | None, float] = {None: 1e-4, "float16": 3e-2, "bfloat16": 1.5e-1, "int8": 3e-1}
# A decision that is closer than the tolerance, or than this, may go either way; on the same networks, all others were
# equal in every precision.
_CLOSE = 0.1
_LEAST_AGREEMENT = 0.99  # of clear decisions
_FEWEST_DECISIONS = 32  # of fewer, one that differs may be the chance of a draw
_TIMED = 15


@dataclass(frozen=True)
class Proof:
    """How an artifact compares with Keras.

    Attributes:
        examples: What they were compared on, for people.
        num_examples: How many.
        difference: The largest difference of a number, as a share of the largest number.
        agreement: The share of equal decisions among the clear ones. A decision is the most probable label; bona fide
            or spoofed; of faces, one person or two, for every pair of the examples. It is clear where the threshold, or
            the second label, is further than the precision's tolerance and at most 0.1 of the largest number.
        clear: The share of clear decisions.
        latency_ms: Of one example with the artifact, median.
        keras_latency_ms: The same with Keras.
    """

    examples: str
    num_examples: int
    difference: float
    agreement: float
    clear: float
    latency_ms: float
    keras_latency_ms: float


def prove(
    artifact: Artifact, model: Any, metadata: dict[str, Any], examples: Examples, quantize: str | None, source: Path
) -> Proof:
    """Runs both on the examples and compares.

    Args:
        artifact: The artifact.
        model: The Keras model that it was made of.
        metadata: What the model's file says, with the threshold.
        examples: What to compare on.
        quantize: A key of `TOLERANCES`.
        source: The model's file, for the message.

    Returns:
        The figures.

    Raises:
        ExportError: If they differ by more than the tolerance.
    """

    def keras_run(*batch: Any) -> NDArray[Any]:
        return np.asarray(model.predict_on_batch(list(batch) if len(batch) > 1 else batch[0]))

    expected = np.concatenate([keras_run(*batch) for batch in examples.batches])
    received = np.concatenate([artifact(*batch) for batch in examples.batches])
    if received.shape != expected.shape:
        raise ExportError(f"{source}: expected an output of {expected.shape}. Received: {received.shape}")
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    difference = float(np.abs(received - expected).max() / largest)
    decisions, margins = _decided(expected, metadata)
    most = TOLERANCES[quantize]
    clear = margins > min(most, _CLOSE) * largest
    agreement = float(np.mean((decisions == _decided(received, metadata)[0])[clear])) if clear.any() else 1.0
    share = float(clear.mean()) if clear.size else 1.0
    one: Batch = tuple(array[:1] for array in examples.batches[0])
    latencies = (_latency_ms(artifact, one), _latency_ms(keras_run, one))
    figures = Proof(examples.origin, len(examples), difference, agreement, share, *latencies)
    decisive = len(examples) >= _FEWEST_DECISIONS and examples.real
    # Written so that NaN is refused too.
    if not difference <= most or (decisive and agreement < _LEAST_AGREEMENT):
        raise ExportError(
            f"The artifact made of {source} does not agree with Keras on {examples.origin}: numbers differ by up to "
            f"{difference:.1e} of the largest one (at most {most:.1e} is accepted), and {agreement:.2%} of the "
            f"decisions that are not close are equal (at least {_LEAST_AGREEMENT:.0%}). Nothing was written. "
            + ("Please report this." if quantize is None else "Export it without --quantize.")
        )
    return figures


def _decided(outputs: NDArray[Any], metadata: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns decisions, and how far each is from the other one, in the unit of the outputs."""
    task = metadata.get("task")
    if task == SPEECH and outputs.ndim == 1:
        threshold = metadata.get("threshold", 0.0)
        return outputs > threshold, np.abs(outputs - threshold)
    if task == FACES:
        directions = outputs / np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-12)
        cosines = (directions @ directions.T)[np.triu_indices(len(outputs), 1)]
        threshold = 0.5 if metadata.get("threshold") is None else metadata["threshold"]
        return cosines >= threshold, np.abs(cosines - threshold) * np.abs(outputs).max()
    ranked = np.sort(outputs.reshape(len(outputs), -1), axis=1)
    gaps = ranked[:, -1] - ranked[:, -2] if ranked.shape[1] > 1 else np.full(len(ranked), np.inf)
    return outputs.reshape(len(outputs), -1).argmax(axis=1), gaps


def _latency_ms(run: Callable[..., Any], batch: Batch) -> float:
    run(*batch)
    seconds = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        run(*batch)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3
