"""What an artifact is, whatever runs it, and how it is called."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import DataError

__all__ = ["Artifact", "TensorInfo", "sizes"]

_Run = Callable[[list[NDArray[Any]]], NDArray[Any]]


@dataclass(frozen=True)
class TensorInfo:
    """What an artifact takes or gives.

    Attributes:
        name: Its name.
        shape: A size an axis, None where it is free.
        dtype: Name of NumPy's type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tells whether an array of this shape can be given."""
        return len(shape) == len(self.shape) and all(
            ours in (None, theirs) for ours, theirs in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Artifact:
    """A model that is ready to run, whatever runs it. `open_artifact` makes one.

    Attributes:
        path: Its file.
        metadata: What it says of itself: task, labels, threshold, and where it comes from (`artifact`).
        inputs: What it takes.
        output: What it gives.
        weights_digest: That of the Keras model that it was made of (`weights_digest`): outputs of artifacts with the
            same one can be compared.
        streams: How many batches `map` runs at a time.
        batch_size: How many pictures a batch are computed fastest: few of them stay in the processor's caches, where
            the runtime needs little time for a call.

    Example:
    >>> artifact = open_artifact("digits.onnx")
    >>> artifact(np.zeros((1, 28, 28, 1), "float32")).shape
    (1, 10)
    """

    path: Path
    metadata: dict[str, Any]
    inputs: tuple[TensorInfo, ...]
    output: TensorInfo
    weights_digest: str
    streams: int
    run: _Run
    batch_size: int = 16

    def __call__(self, *arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Runs the model on one batch. It may be called from several threads at once.

        Args:
            *arrays: An array an input, in the order of `inputs`; types are converted.

        Returns:
            The output, float32.

        Raises:
            DataError: If a shape does not fit, or the arrays' batches differ.
        """
        wanted = [f"{one.name} {_shape_text(one.shape)}" for one in self.inputs]
        shapes = [np.shape(array) for array in arrays]
        fits = len(arrays) == len(self.inputs) and all(
            one.fits(shape) for one, shape in zip(self.inputs, shapes, strict=True)
        )
        if not fits or len({shape[0] for shape in shapes}) != 1:
            raise DataError(f"{self.path} takes {', '.join(wanted)}. Received: {', '.join(map(str, shapes))}")
        fitted = [np.ascontiguousarray(array, one.dtype) for one, array in zip(self.inputs, arrays, strict=True)]
        if shapes[0][0] == 0:
            return np.zeros((0, *(size or 0 for size in self.output.shape[1:])), np.float32)
        try:
            return np.asarray(self.run(fitted), np.float32)
        except Exception as error:
            raise DataError(f"{self.path} could not be run on {', '.join(map(str, shapes))}: {error}") from error

    def map(self, batches: Iterable[tuple[NDArray[Any], ...]]) -> Iterator[NDArray[np.float32]]:
        """Runs the model on batch after batch, `streams` of them at a time, and keeps their order.

        The batches are taken as they are needed, so memory does not grow with their number, and they are made by the
        caller's thread while others run the model.

        Args:
            batches: The inputs of each call.

        Yields:
            The output of each call, as a call alone returns it.

        Raises:
            DataError: If a batch does not fit the model's inputs.
        """
        remaining = iter(batches)
        waiting: deque[Future[NDArray[np.float32]]] = deque()
        try:
            for batch in islice(remaining, 2 * self.streams):
                waiting.append(self._pool.submit(self, *batch))
            while waiting:
                done = waiting.popleft().result()
                for batch in islice(remaining, 1):
                    waiting.append(self._pool.submit(self, *batch))
                yield done
        finally:
            for future in waiting:
                future.cancel()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Threads are kept from call to call: LiteRT and OpenVINO hold what they compute in for each of them."""
        return ThreadPoolExecutor(self.streams)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def sizes(shape: Iterable[Any]) -> tuple[int | None, ...]:
    """Returns the shape that a runtime states, None for what is no positive whole number: such an axis is free."""
    return tuple(int(size) if isinstance(size, int | np.integer) and size > 0 else None for size in shape)
