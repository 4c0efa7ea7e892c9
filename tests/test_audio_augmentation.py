"""Audio augmentation against independent statements of it, and its promises."""

import inspect
import io
import sys

import numpy as np
import pytest
import soundfile
from conftest import real_file
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from lightcnn.augmentation import (
    CODECS,
    a_law,
    add_noise,
    augment_audio,
    coloured_noise,
    convolutive_noise,
    impulsive_noise,
    mu_law,
    reverberate,
    room_responses,
    stationary_noise,
    through_codec,
)
from lightcnn.augmentation.rawboost import _notched
from lightcnn.errors import MissingDependencyError

RATE = 16000
SHARES = ("room", "noise", "convolutive", "impulsive", "stationary", "codec")
EVERYTHING = dict.fromkeys(SHARES, 1.0) | {"max_gain_db": 6.0}


def speech(count=4, length=8000):
    generator = np.random.default_rng(7)
    time = np.arange(length) / RATE
    pitch = generator.uniform(100, 200, (count, 1))
    tones = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 10))
    return (0.1 * tones * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def power(samples):
    return np.mean(np.asarray(samples, np.float64) ** 2, axis=-1)


# ------------------------------------------------------------------------------------------------------ augment_audio


def test_nothing_is_done_unless_it_is_asked_for():
    batch = speech()
    assert augment_audio(batch, RATE, np.random.default_rng(0)) is batch
    defaults = {name: value.default for name, value in inspect.signature(augment_audio).parameters.items()}
    assert {defaults[name] for name in EVERYTHING} == {0.0}


@pytest.mark.parametrize("options", [*[{name: 1.0} for name in SHARES], {"max_gain_db": 6.0}, EVERYTHING])
def test_changes_are_seeded_and_leave_the_batch_alone(options):
    batch = speech()
    before = batch.copy()
    first, again, other = (augment_audio(batch, RATE, np.random.default_rng(seed), **options) for seed in (1, 1, 2))
    np.testing.assert_array_equal(batch, before)
    np.testing.assert_array_equal(first, again)
    assert (first != batch).any(axis=1).all()
    assert (first != other).any(axis=1).any()
    assert first.shape == batch.shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()


@pytest.mark.parametrize("name", [name for name in SHARES if name != "codec"])
def test_a_share_of_the_recordings_is_changed(name):
    batch = np.repeat(speech(1, 800), 400, axis=0)
    changed = (augment_audio(batch, RATE, np.random.default_rng(0), **{name: 0.25}) != batch).any(axis=1)
    assert 65 < changed.sum() < 135  # 100 +- 4 standard deviations


@pytest.mark.parametrize("options", [{"noise": 1.5}, {"room": -0.1}])
def test_a_share_is_a_share(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}={options[name]}"):
        augment_audio(speech(), RATE, np.random.default_rng(0), **options)


@pytest.mark.parametrize("codecs", ["mp3,gsm", ""])
def test_unknown_codecs_are_named(codecs):
    with pytest.raises(ValueError, match=r"gsm|at least one"):
        augment_audio(speech(), RATE, np.random.default_rng(0), codec=1.0, codecs=codecs)
    with pytest.raises(ValueError, match="codec='gsm'"):
        through_codec(speech()[0], RATE, "gsm")


def test_own_noise_and_rooms_are_drawn():
    asked = []

    def clips(generator, count, length):
        asked.append((count, length))
        drawn = np.zeros((count, length), np.float32)
        drawn[:, ::2] = 1
        return drawn

    batch = speech(3, 20000)
    options = {"noise": 1.0, "noise_min_snr_db": 10.0, "noise_max_snr_db": 10.0, "noises": clips}
    noise = augment_audio(batch, RATE, np.random.default_rng(0), **options) - batch
    np.testing.assert_allclose(noise[:, 1::2], 0, atol=1e-7)
    np.testing.assert_allclose(10 * np.log10(power(batch) / power(noise)), 10, atol=0.01)
    augment_audio(batch, RATE, np.random.default_rng(0), room=1.0, responses=clips)
    assert asked == [(3, 20000), (3, 16000)]


@pytest.mark.parametrize("silent", [np.zeros((2, 4000), np.float32), np.zeros((2, 1), np.float32)])
def test_silence_and_single_samples_stay_finite(silent):
    options = EVERYTHING | {"codecs": "mulaw,alaw"}
    assert np.isfinite(augment_audio(silent, RATE, np.random.default_rng(0), **options)).all()


@settings(max_examples=20)
@given(length=st.integers(1, 3000), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_any_length_keeps_its_length(length, count, seed):
    batch = np.random.default_rng(seed).uniform(-1, 1, (count, length)).astype(np.float32)
    result = augment_audio(batch, RATE, np.random.default_rng(seed), **EVERYTHING | {"codecs": "mulaw,alaw"})
    assert result.shape == batch.shape
    assert np.isfinite(result).all()


def test_the_gain_is_uniform_in_decibels():
    batch = np.repeat(speech(1, 100), 2000, axis=0)
    louder = augment_audio(batch, RATE, np.random.default_rng(0), max_gain_db=6.0)
    gain_db = 10 * np.log10(power(louder) / power(batch))
    assert -6.001 < gain_db.min() < -5.9
    assert 5.9 < gain_db.max() < 6.001
    assert abs(gain_db.mean()) < 0.3  # 4 standard errors


# -------------------------------------------------------------------------------------------------------------- noise


def test_noise_is_added_at_the_ratio_asked_for():
    batch, noise = speech(3), np.random.default_rng(0).standard_normal((3, 8000)).astype(np.float32) * 50
    snr_db = np.array([-5.0, 0.0, 30.0])
    added = add_noise(batch, noise, snr_db).astype(np.float64) - batch
    np.testing.assert_allclose(10 * np.log10(power(batch) / power(added)), snr_db, atol=0.01)
    np.testing.assert_allclose(np.sum(added * noise, axis=1), np.sqrt(power(added) * power(noise)) * 8000, rtol=1e-3)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_the_colour_of_noise_is_its_slope(colour):
    noise = coloured_noise((8, 1 << 16), np.random.default_rng(0), colour)
    np.testing.assert_allclose(power(noise), 1, rtol=1e-4)
    np.testing.assert_allclose(noise.mean(axis=1), 0, atol=1e-4)
    frequency, density = signal.welch(noise, 1.0, nperseg=4096)
    inside = (frequency > 0.01) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[inside]), np.log(density.mean(axis=0)[inside]), 1)[0]
    assert slope == pytest.approx(-colour, abs=0.05)


# -------------------------------------------------------------------------------------------------------------- rooms


def test_simulated_rooms_decay_as_asked_for():
    rt60_s = np.array([0.2, 0.4, 0.8])
    responses = room_responses(rt60_s, RATE, np.random.default_rng(0))
    assert (responses.argmax(axis=1) == 0).all()
    # Schroeder: energy that is still to come, from -5 to -25 dB.
    left_db = 10 * np.log10(np.cumsum(responses[:, :0:-1].astype(np.float64) ** 2, axis=1)[:, ::-1] + 1e-30)
    for curve, expected in zip(left_db - left_db[:, :1], rt60_s, strict=True):
        inside = np.flatnonzero((curve < -5) & (curve > -25))
        slope = np.polyfit(inside / RATE, curve[inside], 1)[0]
        assert -60 / slope == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("late", [0, 37])
def test_a_room_is_a_convolution_that_moves_nothing(late):
    batch, responses = speech(3, 1000), room_responses(np.full(3, 0.05), RATE, np.random.default_rng(0))
    heard = reverberate(batch, np.pad(responses, [(0, 0), (late, 0)]))
    for row in range(3):
        expected = np.convolve(batch[row].astype(np.float64), responses[row])[:1000]
        expected *= np.sqrt(power(batch[row]) / power(expected))
        np.testing.assert_allclose(heard[row], expected, atol=1e-6)


def test_a_direct_sound_alone_changes_nothing():
    batch = speech(2, 500)
    response = np.zeros((2, 3000), np.float32)
    response[:, 2500] = -0.3  # longer than the recording, late and upside down
    np.testing.assert_allclose(reverberate(batch, response), -batch, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- codecs


@pytest.mark.parametrize(("law", "subtype"), [(mu_law, "ULAW"), (a_law, "ALAW")])
def test_g711_is_that_of_libsndfile_for_every_sample(law, subtype):
    integers = np.arange(-32768, 32768).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, integers, 8000, subtype, format="WAV")
    file.seek(0)
    np.testing.assert_array_equal(law((integers / 32768).astype(np.float32)), soundfile.read(file)[0])


@pytest.mark.parametrize("codec", CODECS)
def test_speech_passes_a_codec_in_time_and_nearly_unharmed(codec):
    samples, rate = soundfile.read(real_file("golden/D18_1000001.wav"), dtype="float32")
    passed = through_codec(samples, rate, codec)
    assert passed.dtype == np.float32
    assert passed.shape == samples.shape
    assert (passed != samples).any()
    correlation = signal.correlate(passed, samples) / np.sqrt(power(passed) * power(samples)) / len(samples)
    assert correlation.argmax() == len(samples) - 1  # no delay
    assert correlation.max() > 0.95


@pytest.mark.parametrize("codec", ["mp3", "ogg", "opus"])
def test_a_higher_level_loses_more(codec):
    samples, rate = soundfile.read(real_file("golden/D18_1000001.wav"), dtype="float32")
    little, much = (power(through_codec(samples, rate, codec, level) - samples) for level in (0.0, 1.0))
    assert little < much


def test_a_codec_without_the_rate_says_so():
    with pytest.raises(ValueError, match="opus does not take 22050 Hz"):
        through_codec(speech()[0], 22050, "opus")


def test_libsndfile_is_needed_for_its_codecs_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    through_codec(speech()[0], RATE, "mulaw")
    with pytest.raises(MissingDependencyError, match=r'pip install "lightcnn\[speech\]"'):
        through_codec(speech()[0], RATE, "mp3")


# ----------------------------------------------------------------------------------------------------------- RawBoost


class Scripted:
    """Stands in for a random generator and gives what a test says."""

    def __init__(self, uniform, integers):
        self._uniform, self._integers = list(uniform), list(integers)

    def uniform(self, low, high, size):
        return np.array(self._uniform.pop(0), float).reshape(size)

    def integers(self, low, high, size):
        values = np.array(self._integers.pop(0)).reshape(size)
        assert (values >= low).all()
        assert (values < high).all()
        return values


def test_notches_are_scipys_band_stops():
    centre, width, half_taps = [500, 1500, 3000, 5000, 7900], [100, 400, 1000, 700, 900], [5, 20, 50, 31, 50]
    noise = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    ours = _notched(noise, RATE, Scripted([centre, width], [half_taps]), np.array([-6.0]))[0]
    expected, kernel = noise[0].astype(np.float64), np.ones(1)
    for middle, band, half in zip(centre, width, half_taps, strict=True):
        edges = [middle - band / 2, min(middle + band / 2, RATE / 2 - 1)]
        taps = signal.firwin(2 * half + 1, edges, window="hamming", fs=RATE)
        expected, kernel = signal.fftconvolve(expected, taps)[half:-half], np.convolve(kernel, taps)
    expected *= 10 ** (-6 / 20) / np.abs(np.fft.fft(kernel, 1024)).max()
    inside = slice(200, -200)  # the five filters one after another lose what lies beyond the ends
    np.testing.assert_allclose(ours[inside], expected[inside], atol=1e-4)


def test_convolutive_noise_adds_harmonics_that_are_weaker():
    time = np.arange(RATE) / RATE
    tones = np.repeat(0.8 * np.sin(2 * np.pi * 1000 * time)[None], 30, axis=0).astype(np.float32)
    result = convolutive_noise(tones, RATE, np.random.default_rng(0))
    level = np.abs(np.fft.rfft(result)).mean(axis=0)
    for harmonic in (2, 3, 4, 5):
        assert level[1000 * harmonic] > 10 * np.median(level)
        assert level[1000 * harmonic] < level[1000]
    assert np.abs(result.mean(axis=1)).max() < 1e-6
    linear = np.abs(np.fft.rfft(convolutive_noise(tones, RATE, np.random.default_rng(0), num_orders=1))).mean(axis=0)
    assert linear[2000:5001:1000].max() < 1e-3 * linear[1000]


def test_impulsive_noise_hits_some_samples_in_proportion():
    batch = np.random.default_rng(3).uniform(0.1, 0.3, (200, 4000)).astype(np.float32)
    result = impulsive_noise(batch, np.random.default_rng(0))
    change = result / batch - 1
    share = (np.abs(change) > 1e-6).mean(axis=1)
    assert share.max() < 0.12
    assert share.mean() == pytest.approx(0.05, abs=0.01)
    assert 1.5 < np.abs(change).max() <= 2
    assert not impulsive_noise(np.zeros((1, 100), np.float32), np.random.default_rng(0)).any()


def test_stationary_noise_is_between_its_ratios():
    batch = np.repeat(speech(1), 200, axis=0)
    noise = stationary_noise(batch, RATE, np.random.default_rng(0)).astype(np.float64) - batch
    snr_db = 10 * np.log10(power(batch) / power(noise))
    assert 9.9 < snr_db.min() < 12
    assert 38 < snr_db.max() < 40.1
    deepest = signal.welch(noise / np.sqrt(power(noise))[:, None], RATE, nperseg=512)[1].min(axis=1)
    assert np.median(deepest) < 0.3 / (RATE / 2)  # white noise of power 1 has 1 / 8000 everywhere


@pytest.mark.parametrize("change", [lambda x, g: convolutive_noise(x, RATE, g), impulsive_noise])
def test_rawboost_stays_within_range(change):
    loud = np.random.default_rng(0).uniform(-1, 1, (5, 4000)).astype(np.float32)
    assert np.abs(change(loud, np.random.default_rng(0))).max() <= 1


def test_one_room_for_several_recordings():
    generator = np.random.default_rng(0)
    samples, response = (generator.standard_normal(shape).astype(np.float32) for shape in ((3, 500), (1, 40)))
    one_by_one = np.concatenate([reverberate(row[None], response) for row in samples])
    np.testing.assert_allclose(reverberate(samples, response), one_by_one, atol=1e-5)
