"""Audio files of every kind and every damage become the right samples or a DataError that names them."""

import builtins
import struct
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import real_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from lightcnn.decoding import audio_blocks, audio_info, decode_audio, fit_length
from lightcnn.errors import DataError, LightCNNError, MissingDependencyError

RATE = 16000


def tone(rate=RATE, duration_s=1.0, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * duration_s)) / rate)).astype(np.float32)


def save(folder: Path, samples, name="a.wav", rate=RATE, **options) -> Path:
    path = folder / name
    soundfile.write(path, samples, rate, **options)
    return path


# ------------------------------------------------------------------------------------------------------ right samples


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_integers_become_the_same_fractions(tmp_path, name, subtype):
    integers = np.array([0, 1, -1, 16384, -32768, 32767], np.int16)
    path = tmp_path / name
    soundfile.write(path, integers, RATE, subtype=subtype)
    samples = decode_audio(path, RATE)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, integers.astype(np.float64) / 32768)


def test_eight_bits_are_unsigned_in_wav(tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes([0, 64, 128, 192, 255]))
    np.testing.assert_array_equal(decode_audio(path, 8000), [-1.0, -0.5, 0.0, 0.5, 127 / 128])


def test_floating_point_files_keep_their_values(tmp_path):
    values = np.array([0.25, -3.5, 1e-6], np.float32)
    np.testing.assert_array_equal(decode_audio(save(tmp_path, values, subtype="FLOAT"), RATE), values)


@pytest.mark.parametrize(("name", "options"), [("a.ogg", {}), ("a.mp3", {}), ("a.opus", {"format": "OGG"})])
def test_lossy_files_sound_alike(tmp_path, name, options):
    subtype = {"subtype": "OPUS"} if name == "a.opus" else {}
    path = save(tmp_path, tone(), name, **options, **subtype)
    samples = decode_audio(path, RATE)[:RATE]
    energy = np.abs(np.fft.rfft(samples, RATE)) ** 2
    assert energy[439:442].sum() > 0.97 * energy.sum()  # one second: bin = Hz
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_channels_are_averaged(tmp_path):
    generator = np.random.default_rng(0)
    channels = generator.uniform(-1, 1, (1000, 8)).astype(np.float32)
    path = save(tmp_path, channels, subtype="FLOAT")
    np.testing.assert_allclose(decode_audio(path, RATE), channels.sum(axis=1) / 8, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 96000])
def test_another_rate_is_converted(tmp_path, rate):
    samples = decode_audio(save(tmp_path, tone(rate), rate=rate, subtype="FLOAT"), RATE)
    assert len(samples) == RATE
    # A tone below both bands stays itself, away from the ends, where the filter sees the silence around the file.
    np.testing.assert_allclose(samples[1000:-1000], tone()[1000:-1000], atol=1e-4)


def test_conversion_agrees_with_scipy_on_speech():
    path = real_file("golden/D18_1000001.wav")
    ours = decode_audio(path, 8000)
    theirs = resample_poly(soundfile.read(path)[0], 1, 2, window=("kaiser", 12.0))
    assert abs(len(ours) - len(theirs)) <= 1
    length = min(len(ours), len(theirs))
    # Two different anti-aliasing filters: they differ in the last per cent below 4 kHz only.
    assert np.sqrt(np.mean((ours[:length] - theirs[:length]) ** 2)) < 0.03 * np.sqrt(np.mean(theirs**2))


def test_real_speech_is_what_libsndfile_reads():
    path = real_file("golden/D18_1000001.wav")
    expected, rate = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(decode_audio(path, rate), expected)
    info = audio_info(path)
    assert (info.sampling_rate, info.channels, info.num_samples) == (rate, 1, len(expected))
    assert info.duration_s == len(expected) / rate


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silent_and_clipped_files_are_valid(tmp_path, value):
    samples = decode_audio(save(tmp_path, np.full(100, value), subtype="PCM_16"), RATE)
    assert len(samples) == 100
    assert samples == pytest.approx(value, abs=1 / 32768)


def test_one_sample_is_a_recording(tmp_path):
    path = save(tmp_path, np.array([0.5]))
    assert decode_audio(path, RATE).tolist() == [0.5]
    assert len(decode_audio(path, 48000)) == 3


def test_what_will_be_converted_is_told(tmp_path):
    info = audio_info(save(tmp_path, np.zeros((10, 2)), rate=96000, subtype="PCM_24"))
    assert info.changes(16000) == "2 channels mixed down, 96,000 Hz -> 16,000 Hz"
    assert info.encoding == "WAV PCM_24"
    assert audio_info(save(tmp_path, np.zeros(10))).changes(RATE) == ""


def test_content_decides_not_the_name(tmp_path):
    path = save(tmp_path, tone(), "a.flac").rename(tmp_path / "a.raw")
    assert len(decode_audio(path, RATE)) == RATE


# ------------------------------------------------------------------------------------------------ pieces and blocks


@pytest.mark.parametrize(
    ("name", "rate"),
    [(f"a.{kind}", rate) for kind in ("wav", "flac", "ogg", "mp3") for rate in (16000, 44100, 96000)][:-1],
)
@pytest.mark.parametrize(("start", "count"), [(0, 100), (7, 1), (12345, 4000), (31000, 5000), (20000, None)])
def test_a_piece_is_the_same_as_in_the_whole(tmp_path, name, rate, start, count):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * rate).astype(np.float32)
    path = save(tmp_path, noise, name, rate=rate)
    whole = decode_audio(path, RATE)
    piece = decode_audio(path, RATE, start=start, num_samples=count)
    expected = whole[start : None if count is None else start + count]
    np.testing.assert_allclose(piece, expected, atol=5e-6)


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize("block", [1000, 16000, 10**6])
def test_blocks_together_are_the_whole(tmp_path, rate, block):
    path = save(tmp_path, tone(rate, 3.3), rate=rate)
    blocks = list(audio_blocks(path, RATE, block))
    assert [len(part) for part in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) <= block
    np.testing.assert_array_equal(np.concatenate(blocks), decode_audio(path, RATE))


@pytest.fixture(scope="module")
def three_hours(tmp_path_factory):
    """A stereo file at 44.1 kHz, mostly a hole in the disk."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    size = 3 * 3600 * 44100 * 4
    header = (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44100, 176400, 4, 16)
    )
    with path.open("wb") as file:
        file.write(header + b"data" + struct.pack("<I", size))
        file.truncate(44 + size)
    return path


def peak_megabytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("start", [0, 2 * 3600 * RATE])
def test_a_piece_of_three_hours_costs_little(three_hours, start):
    pieces = []
    peak = peak_megabytes(lambda: pieces.append(decode_audio(three_hours, RATE, start=start, num_samples=64600)))
    assert pieces[0].shape == (64600,)
    assert peak < 20


@pytest.mark.slow
def test_three_hours_stream_in_little_memory(three_hours):
    lengths = []
    peak = peak_megabytes(lambda: lengths.append(sum(len(block) for block in audio_blocks(three_hours, RATE, RATE))))
    assert lengths == [3 * 3600 * RATE]
    assert peak < 20


# --------------------------------------------------------------------------------------------------------- bad input


def bad(path, match, **options):
    with pytest.raises(DataError, match=match) as caught:
        decode_audio(path, RATE, **options)
    assert str(path) in str(caught.value)


def test_what_is_no_file(tmp_path):
    bad(tmp_path / "none.wav", "no such file")
    bad(tmp_path, "not a file")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"no audio at all\n" * 100, "not a WAV"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a WAV"),
        (b"RIFF", "not a WAV|damaged"),
        (b"fLaC" + bytes(50), "damaged|not a WAV|no samples"),
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.raw", "a.vox"])
def test_what_is_no_audio(tmp_path, content, cause, name):
    path = tmp_path / name
    path.write_bytes(content)
    bad(path, cause)
    with pytest.raises(DataError, match=cause):
        audio_info(path)


def test_a_header_without_samples(tmp_path):
    bad(save(tmp_path, np.zeros(0)), "no samples")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.aiff", "a.au", "a.rf64", "a.nist"])
@pytest.mark.parametrize("kept", [0.95, 0.5, 0.1])
def test_truncated_files(tmp_path, name, kept):
    opus = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
    path = save(tmp_path, noise, name, **opus)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    bad(path, "truncated")


def test_a_truncated_mp3_gives_what_is_there(tmp_path):
    path = save(tmp_path, tone(duration_s=4), "a.mp3")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 1.5 * RATE < len(decode_audio(path, RATE)) < 2.5 * RATE


def test_an_mp3_whose_end_would_be_lost(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    path = save(tmp_path, noise, "a.mp3")
    content = path.read_bytes()
    assert len(decode_audio(path, RATE)) == len(noise)
    path.write_bytes(content[content.index(content[:2], 4) :])  # without its first frame, which is the index
    bad(path, "without an index")


def test_a_coding_without_places_is_read_from_its_beginning(tmp_path):
    path = save(tmp_path, tone(duration_s=2), "a.wav", subtype="GSM610")
    whole = decode_audio(path, RATE)
    assert len(whole) >= 2 * RATE
    np.testing.assert_array_equal(decode_audio(path, RATE, start=5000, num_samples=700), whole[5000:5700])


def test_a_wav_from_a_pipe_is_whole(tmp_path):
    path = save(tmp_path, tone())
    content = bytearray(path.read_bytes())
    content[40:44] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(decode_audio(path, RATE)) == RATE


def test_a_flac_of_unknown_length(tmp_path):
    path = save(tmp_path, tone(), "a.flac")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the last 36 bits before the digest are the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    bad(path, "does not say how long")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    samples = tone()
    samples[777] = value
    path = save(tmp_path, samples, subtype="FLOAT")
    bad(path, "NaN or infinite")
    assert len(decode_audio(path, RATE, num_samples=700)) == 700  # it is not in what is wanted


def test_too_short_for_the_rate(tmp_path):
    bad(save(tmp_path, np.zeros(1), rate=96000), "no sample is left at 16000 Hz")


def test_a_start_behind_the_end(tmp_path):
    bad(save(tmp_path, tone()), "no sample is from sample 20000 on", start=20000)


@pytest.mark.parametrize("options", [{"start": -1}, {"num_samples": 0}])
def test_pieces_that_make_no_sense(tmp_path, options):
    with pytest.raises(DataError, match="Received"):
        decode_audio(save(tmp_path, tone()), RATE, **options)
    with pytest.raises(DataError, match="Received"):
        list(audio_blocks(save(tmp_path, tone()), RATE, 0))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["a.wav", "a.flac", "a.ogg"]), data=st.data())
def test_any_damage_gives_samples_or_an_error_of_ours(tmp_path, name, data):
    path = save(tmp_path, tone(duration_s=0.1), name)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(200, len(content)) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    try:
        samples = decode_audio(damaged, RATE, num_samples=RATE)
    except LightCNNError as error:
        assert str(damaged) in str(error)
    else:
        assert samples.ndim == 1
        assert 0 < len(samples) <= RATE
        assert np.isfinite(samples).all()


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    path = save(tmp_path, tone())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf'{package}.*pip install "lightcnn\[speech\]"'):
        decode_audio(path, 8000)


def test_a_missing_c_library_is_a_missing_package(tmp_path, monkeypatch):
    path = save(tmp_path, tone())
    real_import = builtins.__import__

    def without_library(name, *arguments, **options):
        if name == "soundfile":
            raise OSError("sndfile library not found")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr("lightcnn.decoding.audio.import_module", without_library)
    with pytest.raises(MissingDependencyError, match="sndfile library not found"):
        decode_audio(path, RATE)


def test_importing_loads_no_audio_package():
    code = "import lightcnn.decoding, sys; print({'soundfile', 'soxr'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# ------------------------------------------------------------------------------------------------------ fixed length

SAMPLES = np.arange(1.0, 8.0, dtype=np.float32)


@pytest.mark.parametrize(
    ("pad", "expected"),
    [
        ("repeat", [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2]),
        ("zero", [1, 2, 3, 4, 5, 6, 7] + [0] * 9),
        ("edge", [1, 2, 3, 4, 5, 6, 7] + [7] * 9),
    ],
)
def test_short_recordings_are_filled(pad, expected):
    result = fit_length(SAMPLES, 16, pad=pad)
    assert result.tolist() == expected
    assert result.dtype == np.float32
    batch = fit_length(np.stack([SAMPLES, SAMPLES]), 16, pad=pad)
    assert batch.tolist() == [expected, expected]


@pytest.mark.parametrize(("crop", "expected"), [("first", [1, 2, 3]), ("centre", [3, 4, 5])])
def test_long_recordings_are_cut(crop, expected):
    assert fit_length(SAMPLES, 3, crop=crop).tolist() == expected


def test_a_random_crop_reaches_every_place_and_is_seeded():
    def crops(seed):
        generator = np.random.default_rng(seed)
        return [fit_length(SAMPLES, 3, crop="random", generator=generator).tolist() for _ in range(100)]

    assert crops(0) == crops(0) != crops(1)
    assert {tuple(crop) for crop in crops(0)} == {(n, n + 1, n + 2) for n in range(1, 6)}


@pytest.mark.parametrize("crop", ["first", "centre", "random"])
@given(available=st.integers(1, 20), length=st.integers(1, 50), pad=st.sampled_from(["repeat", "zero", "edge"]))
def test_the_length_is_right_always(crop, available, length, pad):
    samples = np.arange(1, available + 1, dtype=np.float32)
    result = fit_length(samples, length, crop=crop, pad=pad, generator=np.random.default_rng(0))
    assert result.shape == (length,)
    assert result[0] == 1 or available > length
    assert np.isin(result, [0, *samples]).all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"length": 3, "crop": "middle"}, "crop='middle'"),
        ({"length": 3, "pad": "silence"}, "pad='silence'"),
        ({"length": 0}, "length=0"),
        ({"length": 3, "crop": "random"}, "generator"),
    ],
)
def test_wrong_arguments_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        fit_length(SAMPLES, **arguments)
    with pytest.raises(ValueError, match="samples=0"):
        fit_length(SAMPLES[:0], 3)
