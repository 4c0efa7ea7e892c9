"""Does an artifact give what Keras gives, and how long do both take?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import ExportError
from lightcnn.exporting.examples import Batch, Examples
from lightcnn.runs import FACES, SPEECH
from lightcnn.runtimes import Artifact

__all__ = ["TOLERANCES", "Proof", "prove"]

# precision -> the largest difference, as a share of the largest value, and the smallest share of equal decisions.
# What 8 bits make of a probability says little, so their decisions count.
TOLERANCES: dict[str | None, tuple[float, float]] = {
    None: (1e-4, 0.995),
    "float16": (5e-2, 0.98),
    "bfloat16": (1e-1, 0.96),
    "int8": (1.0, 0.97),
}
# A threshold is one of the validation scores, which lies exactly on it: what float32 cannot tell is left out.
_TIE = 1e-4
_FEWEST_DECISIONS = 32  # of fewer, one that differs may be the chance of a draw
_TIMED = 15


@dataclass(frozen=True)
class Proof:
    """How an artifact compares with Keras.

    Attributes:
        examples: What they were compared on, for people.
        num_examples: How many.
        difference: The largest difference of a number, as a share of the largest number.
        agreement: The share of equal decisions: the most probable label; bona fide or spoofed; of faces, one person or
            two, for every pair of the examples. Ties, within 1e-4 of the largest value, do not count.
        latency_ms: Of one example with the artifact, median.
        keras_latency_ms: The same with Keras.
    """

    examples: str
    num_examples: int
    difference: float
    agreement: float
    latency_ms: float
    keras_latency_ms: float

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain JSON types."""
        return asdict(self)


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
    clear = margins > _TIE * largest
    agreement = float(np.mean((decisions == _decided(received, metadata)[0])[clear])) if clear.any() else 1.0
    one: Batch = tuple(array[:1] for array in examples.batches[0])
    figures = Proof(
        examples.origin, len(examples), difference, agreement, _latency_ms(artifact, one), _latency_ms(keras_run, one)
    )
    most, least = TOLERANCES[quantize]
    decisive = len(examples) >= _FEWEST_DECISIONS and examples.real
    if not difference <= most or (decisive and agreement < least):  # written so that NaN is refused too
        raise ExportError(
            f"The artifact made of {source} does not agree with Keras on {examples.origin}: numbers differ by up to "
            f"{difference:.1e} of the largest one (at most {most:.0e} is accepted), and {agreement:.2%} of the "
            f"decisions are equal (at least {least:.1%}). Nothing was written. "
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
        threshold = metadata.get("threshold", 0.5)
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
