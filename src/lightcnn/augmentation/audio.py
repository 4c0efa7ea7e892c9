"""Seeded changes to recordings, on whole batches: noise, rooms, gain, codecs, RawBoost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from lightcnn.augmentation.codecs import CODECS, through_codec
from lightcnn.augmentation.noise import add_noise, coloured_noise, power
from lightcnn.augmentation.rawboost import convolutive_noise, impulsive_noise, stationary_noise

__all__ = ["Clips", "augment_audio", "reverberate", "room_responses"]

Samples = NDArray[np.float32]
Clips = Callable[[np.random.Generator, int, int], Samples]
"""Draws recordings: `clips(generator, count, length)` returns `(count, length)`."""


def augment_audio(
    samples: Samples,
    sampling_rate: int,
    generator: np.random.Generator,
    *,
    room: float = 0.0,
    room_min_rt60_s: float = 0.1,
    room_max_rt60_s: float = 0.6,
    responses: Clips | None = None,
    noise: float = 0.0,
    noise_min_snr_db: float = 5.0,
    noise_max_snr_db: float = 30.0,
    noise_colour: float = 1.0,
    noises: Clips | None = None,
    convolutive: float = 0.0,
    impulsive: float = 0.0,
    stationary: float = 0.0,
    max_gain_db: float = 0.0,
    codec: float = 0.0,
    codecs: str = "mulaw,alaw,mp3,ogg,opus",
) -> Samples:
    """Changes a batch of recordings at random, each by itself, in the order of the arguments.

    `room`, `noise`, `convolutive`, `impulsive`, `stationary` and `codec` are the share of recordings that are changed,
    from 0 (the default: none) to 1 (all).

    Args:
        samples: `(batch, samples)` float32 in [-1, 1]. It is not changed.
        sampling_rate: In Hz.
        generator: NumPy's random generator: the same state gives the same result.
        room: Share that is heard in a room.
        room_min_rt60_s: Shortest time in which a simulated room's sound decays by 60 dB, in seconds.
        room_max_rt60_s: The longest.
        responses: Draws measured room responses: `responses(generator, count, length)` returns `(count, length)`.
            None simulates rooms (`room_responses`).
        noise: Share that noise is added to.
        noise_min_snr_db: Smallest ratio of speech to noise, in dB.
        noise_max_snr_db: The largest.
        noise_colour: Power falls as `frequency ** -noise_colour`: 0 white, 1 pink, 2 brown.
        noises: Draws recorded noise, as `responses`. None makes coloured noise.
        convolutive: Share that passes RawBoost's linear and non-linear convolutive noise (`convolutive_noise`).
        impulsive: Share that passes RawBoost's impulsive noise (`impulsive_noise`).
        stationary: Share that passes RawBoost's stationary noise (`stationary_noise`).
        max_gain_db: Largest change of level, either way, in dB; all recordings are changed.
        codec: Share that passes a codec; each recording draws one.
        codecs: The codecs to draw from, names of `CODECS` separated by commas.

    Returns:
        A new array of the same shape (`samples` itself if nothing is asked for).

    Raises:
        ValueError: If a share is not in [0, 1], or a codec is unknown.
        MissingDependencyError: If mp3, ogg or opus is asked for and soundfile is not installed.

    Example:
    >>> batch = np.zeros((4, 64600), np.float32)
    >>> augment_audio(batch, 16000, np.random.default_rng(0), noise=0.5, codec=0.5, codecs="mulaw").shape
    (4, 64600)
    """
    names = [name.strip() for name in codecs.split(",") if name.strip()]
    if unknown := [name for name in names if name not in CODECS]:
        raise ValueError(f"`codecs` must name some of {', '.join(CODECS)}. Received: {', '.join(unknown)}")
    if codec and not names:
        raise ValueError("`codecs` must name at least one codec. Received: codecs=''")
    length = samples.shape[-1]

    def heard_in_rooms(rows: Samples) -> Samples:
        if responses is not None:
            return reverberate(rows, responses(generator, len(rows), min(length, sampling_rate)))
        rt60_s = generator.uniform(room_min_rt60_s, room_max_rt60_s, len(rows))
        return reverberate(rows, room_responses(rt60_s, sampling_rate, generator))

    def with_noise(rows: Samples) -> Samples:
        snr_db = generator.uniform(noise_min_snr_db, noise_max_snr_db, len(rows))
        drawn = noises(generator, *rows.shape) if noises else coloured_noise(rows.shape, generator, noise_colour)
        return add_noise(rows, drawn, snr_db)

    def coded(rows: Samples) -> Samples:
        drawn = generator.integers(len(names), size=len(rows))
        levels = generator.random(len(rows))
        passed = np.empty_like(rows)
        for row, (name, level) in enumerate(zip(drawn.tolist(), levels.tolist(), strict=True)):
            passed[row] = through_codec(rows[row], sampling_rate, names[name], level)
        return passed

    steps: list[tuple[str, float, Callable[[Samples], Samples]]] = [
        ("room", room, heard_in_rooms),
        ("noise", noise, with_noise),
        ("convolutive", convolutive, lambda rows: convolutive_noise(rows, sampling_rate, generator)),
        ("impulsive", impulsive, lambda rows: impulsive_noise(rows, generator)),
        ("stationary", stationary, lambda rows: stationary_noise(rows, sampling_rate, generator)),
        ("max_gain_db", float(max_gain_db > 0), lambda rows: _with_gain(rows, max_gain_db, generator)),
        ("codec", codec, coded),
    ]
    for name, share, _ in steps:
        if not 0 <= share <= 1:
            raise ValueError(f"`{name}` is a share of recordings, from 0 to 1. Received: {name}={share}")
    if any(share for _, share, _ in steps):
        samples = samples.copy()
    for _, share, change in steps:
        chosen = np.flatnonzero(generator.random(len(samples)) < share) if share else np.zeros(0, np.int64)
        if len(chosen):
            samples[chosen] = change(samples[chosen])
    return samples


def _with_gain(samples: Samples, max_gain_db: float, generator: np.random.Generator) -> Samples:
    gain_db = generator.uniform(-max_gain_db, max_gain_db, (len(samples), 1))
    louder: Samples = samples * (10 ** (gain_db / 20)).astype(np.float32)
    return louder


# ------------------------------------------------------------------------------------------------------------- rooms


def room_responses(rt60_s: NDArray[np.float64], sampling_rate: int, generator: np.random.Generator) -> Samples:
    """Simulates rooms: a direct sound, then noise that decays exponentially (Polack's model), as strong as it.

    Args:
        rt60_s: `(rooms,)`, the times in which the sound decays by 60 dB, in seconds.
        sampling_rate: In Hz.
        generator: NumPy's random generator.

    Returns:
        `(rooms, samples)` float32, as long as the longest decay.

    Example:
    >>> room_responses(np.array([0.2, 0.5]), 16000, np.random.default_rng(0)).shape
    (2, 8000)
    """
    time_s = np.arange(max(2, int(np.max(rt60_s) * sampling_rate))) / sampling_rate
    decay = 10 ** (-3 * time_s / np.reshape(rt60_s, (-1, 1)))
    tail = generator.standard_normal(decay.shape) * decay
    tail[:, 0] = 0
    tail /= np.sqrt(np.maximum(np.sum(tail**2, axis=1, keepdims=True), 1e-20))
    tail[:, 0] = 1
    return tail.astype(np.float32)


def reverberate(samples: Samples, responses: Samples) -> Samples:
    """Lets recordings sound as in rooms: each is convolved with its response, at its own level.

    The response's largest value is taken for the direct sound and put at time 0, so that speech stays where it is.

    Args:
        samples: `(batch, samples)` float32.
        responses: `(batch, taps)`.

    Returns:
        `(batch, samples)` float32, of the recordings' own mean powers; what sounds beyond the end is cut off.

    Example:
    >>> reverberate(np.float32([[1, 0, 0, 0]]), np.float32([[1, 0, 0.5]])).round(2)
    array([[0.89, 0.  , 0.45, 0.  ]], dtype=float32)
    """
    length = samples.shape[-1]
    direct = np.abs(responses).argmax(axis=1)
    full = fftconvolve(samples, responses, axes=-1)
    heard = np.empty_like(full, shape=(len(full), length))
    for row, start in enumerate(np.broadcast_to(direct, len(full)).tolist()):
        heard[row] = full[row, start : start + length]
    scale = np.sqrt(power(samples) / np.maximum(power(heard), 1e-20))
    scaled: Samples = (heard * scale).astype(np.float32)
    return scaled
