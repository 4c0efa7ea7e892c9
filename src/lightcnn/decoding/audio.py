"""One audio file -> one array of samples, safely and only as much of it as is wanted."""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import DataError, MissingDependencyError

__all__ = ["AUDIO_SUFFIXES", "AudioInfo", "audio_blocks", "audio_info", "decode_audio", "decode_piece", "fit_length"]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph")
_READ_AT_ONCE = 1 << 18  # values: 1 MB as float32
_UNKNOWN_LENGTH = 1 << 62  # libsndfile's answer for a stream whose header does not say how long it is
_MARGIN = 1024  # samples at the lower rate; soxr's filter is shorter, so that what lies beyond it has no influence


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sampling_rate: In Hz.
        channels: Number of channels.
        num_samples: Samples a channel. For MP3 it may be an estimate.
        encoding: Format and coding, for people: `"FLAC PCM_16"`.
    """

    sampling_rate: int
    channels: int
    num_samples: int
    encoding: str

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sampling_rate

    def changes(self, sampling_rate: int) -> str:
        """What decoding to `sampling_rate` converts, for people, or an empty string.

        Example:
        >>> AudioInfo(48000, 2, 96000, "WAV PCM_16").changes(16000)
        '2 channels mixed down, 48,000 Hz -> 16,000 Hz'
        """
        mixed = f"{self.channels} channels mixed down" if self.channels > 1 else ""
        resampled = f"{self.sampling_rate:,} Hz -> {sampling_rate:,} Hz" if self.sampling_rate != sampling_rate else ""
        return ", ".join(filter(None, (mixed, resampled)))


def audio_info(path: Path | str) -> AudioInfo:
    """Reads the header of an audio file; no sample is decoded.

    Args:
        path: An audio file. Its content decides, not its name.

    Returns:
        An `AudioInfo`.

    Raises:
        DataError: If the file is missing, empty, no audio, visibly truncated, or without a sample.
        MissingDependencyError: If soundfile is not installed.

    Example:
    >>> audio_info("speech.flac").duration_s
    2.5
    """
    with _opened(Path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, f"{file.format} {file.subtype}")


def decode_audio(
    path: Path | str, sampling_rate: int, *, start: int = 0, num_samples: int | None = None
) -> NDArray[np.float32]:
    """Decodes an audio file, or a piece of it, to one channel at one sampling rate.

    Channels are averaged, and another rate is converted by soxr (high quality). Only what is asked for is read: the
    first seconds of a three-hour file cost no more than those of a short one (an MP3 is decoded from its beginning,
    since it cannot be entered exactly). A piece has the samples that the whole file has there, but for rounding.

    Args:
        path: A WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF, AU or NIST Sphere file. Its content decides, not its name.
        sampling_rate: In Hz, of the result.
        start: The first sample wanted, counted at `sampling_rate`.
        num_samples: How many are wanted, or None for all that follow. At the end of the file there are fewer.

    Returns:
        `(samples,)` float32. Integer codings of any width are scaled to [-1, 1]; floating-point files keep their
        values. A silent or clipped file is valid. `audio_info(path).changes(sampling_rate)` says what was converted.

    Raises:
        DataError: If the file is missing, empty, truncated, no audio, holds NaN or infinite samples, or has none from
            `start` on. The message names file and cause. A truncated MP3 gives what is there.
        MissingDependencyError: If soundfile or soxr is not installed.

    Example:
    >>> decode_audio("speech.flac", 16000, num_samples=64600).dtype
    dtype('float32')
    """
    if sampling_rate < 1 or start < 0 or (num_samples is not None and num_samples < 1):
        raise DataError(
            "`sampling_rate` and `num_samples` must be at least 1, `start` at least 0. "
            f"Received: sampling_rate={sampling_rate}, start={start}, num_samples={num_samples}"
        )
    with _opened(Path(path)) as file:
        own_rate = file.samplerate
        # Conversion repeats itself every `period` samples, so a piece that starts at a multiple of it keeps its phase.
        period = own_rate // math.gcd(own_rate, sampling_rate)
        margin = math.ceil(_MARGIN * max(1, own_rate / sampling_rate)) if own_rate != sampling_rate else 0
        first = max(0, start * own_rate // sampling_rate - margin) // period * period
        skip = start - first * sampling_rate // own_rate
        count = None
        if num_samples is not None:
            count = math.ceil((skip + num_samples) * own_rate / sampling_rate) + margin
        blocks = list(_resampled(_mixed(file, Path(path), first, count), own_rate, sampling_rate))
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    samples = samples[skip : None if num_samples is None else skip + num_samples]
    if not len(samples):
        at = f"from sample {start} on" if start else "left"
        raise DataError(f"{path}: too short: no sample is {at} at {sampling_rate} Hz")
    return samples


def decode_piece(
    path: Path | str, sampling_rate: int, num_samples: int, start_of: Callable[[int], int]
) -> NDArray[np.float32]:
    """Decodes a piece of a recording, from a place that its length decides; only what is wanted is read.

    Of an MP3 all is read: its header may promise more than there is, so its end is not known before.

    Args:
        path: The file.
        sampling_rate: In Hz, of the result.
        num_samples: The most samples of the piece, counted at `sampling_rate`.
        start_of: Takes how many samples the recording has beyond `num_samples`, at least 0, and returns the first
            sample of the piece.

    Returns:
        `(samples,)` float32, fewer than `num_samples` if the recording has no more.

    Raises:
        DataError: As `decode_audio`.
        MissingDependencyError: If soundfile or soxr is not installed.

    Example:
    >>> decode_piece("speech.flac", 16000, 64000, lambda surplus: surplus // 2).shape
    (64000,)
    """
    info = audio_info(path)
    if info.encoding.startswith("MP3"):
        samples = decode_audio(path, sampling_rate)
        start = start_of(max(0, len(samples) - num_samples))
        return samples[start : start + num_samples]
    available = info.num_samples * sampling_rate // info.sampling_rate
    return decode_audio(path, sampling_rate, start=start_of(max(0, available - num_samples)), num_samples=num_samples)


def audio_blocks(path: Path | str, sampling_rate: int, block_samples: int) -> Iterator[NDArray[np.float32]]:
    """Decodes an audio file block by block, so that memory does not grow with its length.

    Args:
        path: As in `decode_audio`.
        sampling_rate: In Hz, of the result.
        block_samples: Samples in a block, counted at `sampling_rate`.

    Yields:
        `(block_samples,)` float32; the last block may be shorter. Together they are what `decode_audio` returns.

    Raises:
        DataError: As `decode_audio`, when the damaged place is reached.
        MissingDependencyError: If soundfile or soxr is not installed.

    Example:
    >>> sum(len(block) for block in audio_blocks("lecture.wav", 16000, 16000))
    172800000
    """
    if sampling_rate < 1 or block_samples < 1:
        raise DataError(
            "`sampling_rate` and `block_samples` must be at least 1. "
            f"Received: sampling_rate={sampling_rate}, block_samples={block_samples}"
        )
    with _opened(Path(path)) as file:
        waiting, count = [np.zeros(0, np.float32)], 0
        for block in _resampled(_mixed(file, Path(path)), file.samplerate, sampling_rate):
            waiting.append(block)
            count += len(block)
            if count >= block_samples:
                samples = np.concatenate(waiting)
                whole = len(samples) // block_samples * block_samples
                yield from samples[:whole].reshape(-1, block_samples)
                waiting, count = [samples[whole:]], len(samples) - whole
        if count:
            yield np.concatenate(waiting)


def fit_length(
    samples: NDArray[np.float32],
    length: int,
    *,
    crop: str = "first",
    pad: str = "repeat",
    generator: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """Cuts or fills a recording to a fixed length.

    What a short file is filled with changes the result by more than most changes of a model do, so it is said.

    Args:
        samples: `(..., samples)`, at least one sample. It is not changed.
        length: Samples of the result.
        crop: Where a long recording is cut: `"first"`, `"centre"`, or `"random"` (needs `generator`).
        pad: What follows a short one: `"repeat"` (itself, again and again), `"zero"`, or `"edge"` (its last sample).
        generator: NumPy's random generator: the same state gives the same crop.

    Returns:
        `(..., length)`, of the same dtype; perhaps a view of `samples`.

    Raises:
        ValueError: If an argument is none of these, or there is no sample.

    Example:
    >>> fit_length(np.array([1.0, 2.0], np.float32), 5)
    array([1., 2., 1., 2., 1.], dtype=float32)
    """
    if crop not in _CROPS or pad not in _PADS:
        raise ValueError(
            f"`crop` must be one of {', '.join(_CROPS)} and `pad` one of {', '.join(_PADS)}. "
            f"Received: crop={crop!r}, pad={pad!r}"
        )
    available = samples.shape[-1]
    if length < 1 or not available:
        raise ValueError(
            f"`length` and the number of samples must be positive. Received: length={length}, samples={available}"
        )
    if available < length:
        surplus = [(0, 0)] * (samples.ndim - 1) + [(0, length - available)]
        filled: NDArray[np.float32] = np.pad(samples, surplus, mode=_PADS[pad])  # type: ignore[call-overload]
        return filled
    if crop == "random" and generator is None:
        raise ValueError("crop='random' needs a seeded `generator`, such as np.random.default_rng(0).")
    start = _CROPS[crop](available - length, generator)
    cut: NDArray[np.float32] = samples[..., start : start + length]
    return cut


# name -> (samples that are too many, generator) -> the first one that is kept
_CROPS: dict[str, Callable[[int, Any], int]] = {
    "first": lambda surplus, generator: 0,
    "centre": lambda surplus, generator: surplus // 2,
    "random": lambda surplus, generator: int(generator.integers(surplus + 1)),
}


# name -> NumPy's name of it
_PADS = {"repeat": "wrap", "zero": "constant", "edge": "edge"}


# ------------------------------------------------------------------------------------------------------- libsndfile


def _needed(package: str) -> Any:
    try:
        return import_module(package)
    except (ImportError, OSError) as error:  # OSError: the package is there and its C library is not
        raise MissingDependencyError(
            f'Reading audio needs the package {package} ({error}). Install it: pip install "lightcnn[speech]"'
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens an audio file; whatever libsndfile says of it, then or while it is read, becomes a DataError."""
    soundfile = _needed("soundfile")
    try:
        if not path.is_file():
            raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        if not path.stat().st_size:
            raise DataError(f"{path}: the file is empty")
        # By descriptor: with a name, libsndfile believes the suffix of what it does not know, and plays a text file.
        with soundfile.SoundFile(os.open(path, os.O_RDONLY)) as file:
            _check_whole(file, path)
            yield file
    except soundfile.LibsndfileError as error:
        unknown = error.code == 1
        cause = "not a WAV, FLAC, OGG, MP3, AIFF, AU or NIST Sphere recording" if unknown else "damaged or truncated"
        raise DataError(f"{path}: {cause} (libsndfile: {error.error_string.rstrip('.')})") from error
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, DataError | MissingDependencyError):
            raise
        raise DataError(f"{path}: unreadable: {getattr(error, 'strerror', None) or error}") from error


def _check_whole(file: Any, path: Path) -> None:
    """Finds what libsndfile passes over: data that end early, and an MP3 or OGG that it does not read to its end."""
    if not file.frames or file.samplerate < 1:
        raise DataError(f"{path}: the file has no samples, or it is truncated")
    if file.frames >= _UNKNOWN_LENGTH:  # libsndfile cannot read such a FLAC to its end
        raise DataError(f"{path}: the header does not say how long it is: write the file anew, not to a pipe")
    promised, there = _sizes(file, path)
    # A program that writes to a pipe cannot know the size and claims the largest.
    if there < promised < 0x7FFFF000:
        raise DataError(f"{path}: truncated: {promised:,} bytes or samples promised, {there:,} there")
    if file.format == "MP3" and _mp3_samples(path) > file.frames + 4 * 1152:  # encoders add a little at both ends
        raise DataError(
            f"{path}: an MP3 of varying rate without an index, of which the end would be lost: write it anew"
        )
    if file.format == "OGG":
        with path.open("rb") as ogg:
            ogg.seek(max(0, path.stat().st_size - (1 << 17)))  # a page has at most 65,307 bytes
            _, mark, page = ogg.read().rpartition(b"OggS")
        # After the mark: version, flags (4: end of stream), 20 bytes, number of segments, their sizes, the segments.
        segments = page[22] if len(page) > 22 else 255
        if not mark or not page[1:2] or not page[1] & 4 or len(page) < 23 + segments + sum(page[23 : 23 + segments]):
            raise DataError(f"{path}: truncated: the last page of the OGG stream is missing")


# What libsndfile's notes say of a file that is shorter than its header promises: bytes, or of AIFF and RF64 samples.
_NOTES = {
    "WAV": r"^data *: (?P<promised>\d+) \(should be (?P<there>\d+)",
    "WAVEX": r"^data *: (?P<promised>\d+) \(should be (?P<there>\d+)",
    "AU": r"^ *Data Size *: (?P<promised>\d+) \(should be (?P<there>\d+)",
    "AIFF": r"'COMM' chunk \((?P<promised>\d+)\)[^(]*'SSND' chunk \((?P<there>\d+)\)",
    "RF64": r"frame count (?P<there>\d+) does not match value from 'ds64' chunk of (?P<promised>\d+)",
}


def _sizes(file: Any, path: Path) -> tuple[int, int]:
    """Returns what a file promises and what is there, as far as it is known; the same where it is not."""
    if file.format == "NIST":
        with path.open("rb") as header:
            count = re.search(rb"^sample_count -i (\d+)", header.read(1024), re.MULTILINE)
        return (int(count[1]) if count else 0), file.frames
    found = re.search(_NOTES[file.format], file.extra_info, re.MULTILINE) if file.format in _NOTES else None
    return (int(found["promised"]), int(found["there"])) if found else (0, 0)


# kbit/s of layer III by the header's index: MPEG 1, and MPEG 2 and 2.5
_MP3_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mp3_samples(path: Path) -> int:
    """Counts the samples of an MP3 without an index, whose length libsndfile takes from its first frame; else 0."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _mp3_frames(content)


def _mp3_frames(content: Any) -> int:
    place = 0
    if content[:3] == b"ID3" and len(content) > 10:
        place = 10 + sum((byte & 127) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    if any(mark in content[place : place + 200] for mark in (b"Xing", b"Info", b"VBRI")):
        return 0
    samples = 0
    while place + 4 <= len(content):
        sync, second, third = content[place : place + 3]
        version, index, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
        if sync != 255 or second & 0xE6 != 0xE2 or version == 1 or not 0 < index < 15 or rate == 3:
            break  # no frame of layer III: what follows are tags, or nothing that can be counted
        first = version == 3
        frequency = (44100, 48000, 32000)[rate] >> (0 if first else 1 if version == 2 else 2)
        count = 1152 if first else 576
        place += count // 8 * _MP3_RATES[first][index] * 1000 // frequency + (third >> 1 & 1)
        samples += count
    return samples


def _mixed(file: Any, path: Path, first: int = 0, count: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yields blocks of one channel at the file's own rate: `count` samples from `first` on, or all."""
    exact = file.format != "MP3"  # which cannot be entered exactly, and whose length is estimated without an index
    at_once = max(1, _READ_AT_ONCE // file.channels)
    position, end = 0, math.inf if count is None else first + count
    if exact and file.seekable():  # some telephone codings are read from their beginning only
        position = file.seek(min(first, file.frames))
    while position < end:
        wanted = int(min(at_once, end - position if position >= first else first - position))
        block = file.read(wanted, dtype="float32", always_2d=True)
        if not len(block):
            break
        if position >= first:
            if not np.isfinite(block).all():
                raise DataError(f"{path}: holds NaN or infinite samples")
            yield block[:, 0] if file.channels == 1 else block.mean(axis=1)
        position += len(block)
    if exact and position < min(end, file.frames):
        raise DataError(f"{path}: truncated: {file.frames:,} samples promised, {position:,} there")


def _resampled(
    blocks: Iterator[NDArray[np.float32]], own_rate: int, sampling_rate: int
) -> Iterator[NDArray[np.float32]]:
    if own_rate == sampling_rate:
        yield from blocks
        return
    stream = _needed("soxr").ResampleStream(own_rate, sampling_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
