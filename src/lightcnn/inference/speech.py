"""Audio files and streams in, scores out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.calibration import Calibration
from lightcnn.decoding import AUDIO_SUFFIXES, audio_blocks, audio_info, decode_audio, fit_length, list_files
from lightcnn.errors import DataError, ModelFileError
from lightcnn.inference import Item, Predictor, look_at, named
from lightcnn.runtimes import Artifact

__all__ = ["SpeechPredictor", "Stream"]

_GROUP = 32  # files heard while those before are scored
_FIXED_S = 8.0  # of a batch of windows: a longer one takes more memory, not less time
_ROWS = (32, 16, 8, 4, 2, 1)  # of a batch of any length: few, since a backend compiles and keeps code for every shape
_LONGEST_S = 60.0  # a longer file is scored in equal pieces no longer than this
_TOO_LOUD = "are there samples far beyond -1 and 1?"
_ROUNDING_S = 0.5  # rows are padded to a multiple of this, so that a backend does not compile for every length


class SpeechPredictor(Predictor):
    """A trained countermeasure with all it needs to listen to recordings: sampling rate, length, threshold.

    Args:
        artifact: A model from samples to scores. Its metadata are what `train` writes: `sampling_rate` and `input`,
            maybe `threshold` and `calibration`.

    Attributes:
        sampling_rate: In Hz.
        window_samples: What the model was trained on, and the length of a window.
        threshold: Scores above it are called bona fide.

    Example:
    >>> predictor = Predictor.load("runs/asvspoof2019_la/20261124-120000")
    >>> [row["score"] for row in predictor.predict(["call.wav"])]
    [3.21]
    """

    def __init__(self, artifact: Artifact) -> None:
        metadata = artifact.metadata
        described: Any = metadata.get("input")
        try:
            self.sampling_rate, self.window_samples = int(metadata["sampling_rate"]), int(described["window_samples"])
            self._pad, self.threshold = str(described["pad"]), float(metadata.get("threshold", 0.0))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                "A model file of a countermeasure must have `sampling_rate`, and `input` with `window_samples` and "
                f"`pad`. Received: {str(metadata)[:200]}"
            ) from error
        shapes = [one.shape for one in artifact.inputs]
        if len(artifact.output.shape) != 1 or [len(shape) for shape in shapes] not in ([2], [2, 1]):
            raise ModelFileError(
                "Expected a model from samples (batch, samples), maybe with lengths (batch,), to scores (batch,). "
                f"Received: input {', '.join(map(str, shapes))}, output {artifact.output.shape}"
            )
        if shapes[0][1] not in (None, self.window_samples):
            raise ModelFileError(
                "Expected a model that hears as many samples as its metadata say. "
                f"Received: {shapes[0][1]} samples, window_samples={self.window_samples}"
            )
        self.metadata = metadata
        calibration = metadata.get("calibration")
        self.calibration = None if calibration is None else Calibration.from_json(calibration)
        self._artifact, self._any_length = artifact, len(shapes) == 2

    def predict(self, files: Iterable[Item]) -> Iterator[dict[str, Any]]:
        """Listens to recordings some at a time; memory does not grow with their number or length.

        A network of fixed size hears the beginning of a file, repeated or filled up as in training. One of any length
        hears all of it; a file of more than 60 s is heard in equal pieces, and its score is their mean.

        Args:
            files: Audio files of any rate and number of channels, or arrays `(samples,)` as `score` takes them.

        Yields:
            A dictionary a file, in order: `file`, `score` (higher = more bona fide), `llr` (None without calibration),
            `label`, `threshold`, and `changes` (what was converted, or an empty string). A file that could not be read
            gives `file` and `error`. An array's `file` is `"array 0"`, by its position.

        Raises:
            DataError: If an array does not fit.
        """
        # Recordings of any length can be 60 s long, so more streams do not hold more of them.
        size = _GROUP if self._any_length else _GROUP * self._artifact.streams
        yield from look_at(named(files), size, self._row, self._scored)

    def _row(self, item: tuple[str, Item]) -> dict[str, Any]:
        """Returns the row of a file, with its samples instead of their score; of one that is long, with the score."""
        name, file = item
        if isinstance(file, np.ndarray):
            changes, recording = "", self._heard(file)
        else:
            try:
                changes, recording = self._hear(Path(file))
            except DataError as error:
                return {"file": name, "error": str(error).removeprefix(f"{Path(file)}: ")}
        kind = "score" if isinstance(recording, float) else "samples"
        return {"file": name, "changes": changes, kind: recording}

    def _scored(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        heard = [row for row in rows if "samples" in row]
        for row, score in zip(heard, self.score([row.pop("samples") for row in heard]), strict=True):
            row["score"] = float(score)
        for row in rows:
            if "error" not in row and not math.isfinite(row["score"]):
                row["error"] = f"the model's score is not finite: {_TOO_LOUD}"
        return [
            {"file": row["file"], "error": row["error"]} if "error" in row else {**row, **self.judged(row["score"])}
            for row in rows
        ]

    def judged(self, score: float) -> dict[str, Any]:
        """Returns `score` with `llr`, `label` and `threshold`."""
        llr = None if self.calibration is None else float(self.calibration.llr([score])[0])
        label = "bonafide" if score > self.threshold else "spoof"
        return {"score": score, "llr": llr, "label": label, "threshold": self.threshold}

    def _hear(self, path: Path) -> tuple[str, NDArray[np.float32] | float]:
        """Returns what was converted, and the samples; of a file too long to hear at once, its score."""
        info = audio_info(path)
        changes, rate = info.changes(self.sampling_rate), self.sampling_rate
        if not self._any_length:
            return changes, decode_audio(path, rate, num_samples=self.window_samples)
        total = info.num_samples * rate / info.sampling_rate
        size = self._piece_size(total)
        if size >= total:
            return changes, decode_audio(path, rate)
        return changes, self._mean_score(audio_blocks(path, rate, size))

    def _heard(self, samples: NDArray[Any]) -> NDArray[np.float32] | float:
        """Returns the samples of an array; of one too long to hear at once, its score."""
        samples = _checked(samples, self.sampling_rate)
        size = self._piece_size(len(samples)) if self._any_length else len(samples)
        if size == len(samples):
            return samples
        return self._mean_score(samples[start : start + size] for start in range(0, len(samples), size))

    def _piece_size(self, total: float) -> int:
        """Returns the length of the equal pieces that so many samples are heard in."""
        return math.ceil(total / math.ceil(total / round(_LONGEST_S * self.sampling_rate)))

    def _mean_score(self, pieces: Iterable[NDArray[np.float32]]) -> float:
        # By their lengths: that of an MP3 is known when it has been decoded, so its last piece can be shorter.
        scores, lengths = zip(*((float(self.score([piece])[0]), len(piece)) for piece in pieces), strict=True)
        return float(np.average(scores, weights=lengths))

    def score(self, recordings: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns the scores of recordings that are arrays already, as if each were scored alone.

        Args:
            recordings: Arrays `(samples,)`, float32 in [-1, 1], at the model's sampling rate, at least one sample each.

        Returns:
            `(recordings,)` float32; higher = more bona fide.

        Raises:
            DataError: If a recording does not fit.
        """
        if not recordings:
            return np.zeros(0, np.float32)
        recordings = [_checked(one, self.sampling_rate) for one in recordings]
        if not self._any_length:
            size = self.window_samples
            rows = max(1, round(_FIXED_S * self.sampling_rate) // size)
            fitted = (fit_length(one, size, pad=self._pad) for one in recordings)
            batches = iter(lambda: list(islice(fitted, rows)), [])  # a stream may ask for any number of windows
            return np.concatenate(list(self._artifact.map((np.stack(batch),) for batch in batches)))
        # Recordings of like length share a batch, so that little is computed on padding.
        order = sorted(range(len(recordings)), key=lambda index: len(recordings[index]))
        scores = np.zeros(len(recordings), np.float32)
        scores[order] = np.concatenate(list(self._artifact.map(self._padded([recordings[index] for index in order]))))
        return scores

    def _padded(self, recordings: list[NDArray[np.float32]]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yields batches of recordings, in order, that hold at most 60 s together, with their lengths."""
        step, budget = int(_ROUNDING_S * self.sampling_rate), _LONGEST_S * self.sampling_rate
        start = 0
        while start < len(recordings):
            possible = (rows for rows in _ROWS if start + rows <= len(recordings))
            end = start + next(
                rows for rows in possible if rows == 1 or rows * len(recordings[start + rows - 1]) <= budget
            )
            chosen, start = recordings[start:end], end
            lengths = np.array([len(one) for one in chosen], np.int32)
            samples = np.zeros((len(chosen), math.ceil(lengths.max() / step) * step), np.float32)
            for row, one in enumerate(chosen):
                samples[row, : len(one)] = one
            yield samples, lengths

    def windows(self, path: Path | str, step_s: float | None = None) -> Iterator[dict[str, float]]:
        """Scores a file window by window, in bounded memory.

        Args:
            path: An audio file.
            step_s: Seconds from one window's start to the next; None for half a window.

        Yields:
            `start_s`, `end_s` and `score` of each window, as `Stream` gives them.

        Raises:
            DataError: If the file cannot be read, or a score is not finite.
        """
        stream = Stream(self, step_s)
        for block in audio_blocks(path, self.sampling_rate, 8 * self.window_samples):
            yield from stream.push(block)
        yield from stream.finish()

    def files_in(self, folder: Path) -> list[Path]:
        """Lists the recordings in and below a folder, sorted.

        Raises:
            DataError: If there is none.
        """
        return list_files(folder, AUDIO_SUFFIXES, "recording")[0]


class Stream:
    """Scores of overlapping windows while samples come in, in chunks of any size.

    A window is as long as what the model was trained on. Samples that no whole window covers at the end are covered by
    a last window that ends with them; audio that is shorter than a window is scored as a file of its own.

    Args:
        predictor: A `SpeechPredictor`.
        step_s: Seconds from one window's start to the next, at most a window; None for half a window.

    Example:
    >>> stream = Stream(predictor)
    >>> for chunk in microphone:
    ...     for window in stream.push(chunk):
    ...         print(window["start_s"], window["score"])
    """

    def __init__(self, predictor: SpeechPredictor, step_s: float | None = None) -> None:
        window, rate = predictor.window_samples, predictor.sampling_rate
        step = window // 2 if step_s is None else round(step_s * rate) if math.isfinite(step_s) else 0
        if not 1 <= step <= window:
            raise ValueError(
                f"`step_s` must be above 0 and at most a window, {window / rate:g} s. Received: step_s={step_s}"
            )
        self._predictor, self._window, self._step = predictor, window, step
        self._buffer = np.zeros(0, np.float32)
        self._first = 0  # the position of the buffer's first sample
        self._next = 0  # where the next window starts

    def push(self, samples: NDArray[np.float32]) -> list[dict[str, float]]:
        """Takes samples `(samples,)`, floats from -1 to 1 at the model's rate; returns the windows that they complete.

        Raises:
            DataError: If they are something else, or a score is not finite; the stream is as before.
        """
        samples = _checked(np.asarray(samples), self._predictor.sampling_rate, least=0)
        buffer = np.concatenate([self._buffer, samples])
        end = self._first + len(buffer)
        starts = range(self._next, end - self._window + 1, self._step)
        scored = self._scored(buffer, starts)
        self._next += len(starts) * self._step
        # A last window may still need the samples before its end.
        keep = max(self._first, min(self._next, end - self._window))
        self._buffer, self._first = buffer[keep - self._first :], keep
        return scored

    def finish(self) -> list[dict[str, float]]:
        """Returns the last window, if samples are left that no window covered; the stream starts anew.

        Raises:
            DataError: If the score is not finite.
        """
        end, covered = self._first + len(self._buffer), self._next - self._step + self._window if self._next else 0
        scored = self._scored(self._buffer, [max(0, end - self._window)]) if end > covered else []
        self._buffer, self._first, self._next = np.zeros(0, np.float32), 0, 0
        return scored

    def _scored(self, buffer: NDArray[np.float32], starts: Sequence[int]) -> list[dict[str, float]]:
        pieces = [buffer[start - self._first :][: self._window] for start in starts]
        rate, scores = self._predictor.sampling_rate, self._predictor.score(pieces)
        if not np.isfinite(scores).all():
            first = starts[int(np.isfinite(scores).argmin())] / rate
            raise DataError(f"The score of the window at {first:g} s is not finite: {_TOO_LOUD}")
        return [
            {"start_s": start / rate, "end_s": (start + len(piece)) / rate, "score": float(score)}
            for start, piece, score in zip(starts, pieces, scores, strict=True)
        ]


def _checked(samples: NDArray[Any], sampling_rate: int, least: int = 1) -> NDArray[np.float32]:
    """Returns samples as float32; others than finite floats, as the integers of a microphone, would score as well."""
    if samples.ndim != 1 or len(samples) < least or samples.dtype.kind != "f":
        hint = f". Divide them by {-np.iinfo(samples.dtype).min}." if samples.dtype.kind == "i" else ""
        raise DataError(
            f"Expected samples of shape (samples,), floats from -1 to 1 at {sampling_rate} Hz. "
            f"Received: {samples.dtype} {samples.shape}{hint}"
        )
    if not np.isfinite(samples).all():
        raise DataError("Expected samples that are finite. Received: NaN or infinity")
    return samples.astype(np.float32, copy=False)
