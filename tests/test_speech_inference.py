"""A countermeasure listens to files of any length, rate and channels, and to streams; one bad file stops nothing."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import soundfile
import soxr
from conftest import real_file, without_compiling
from hypothesis import given, settings
from hypothesis import strategies as st
from test_speech_training import RATE, small_run

from lightcnn.decoding import decode_audio, fit_length
from lightcnn.errors import DataError, ModelFileError
from lightcnn.exporting import export
from lightcnn.frontends import lfcc_nii
from lightcnn.inference import Predictor
from lightcnn.inference import speech as inference
from lightcnn.inference.speech import SpeechPredictor, Stream
from lightcnn.models import from_samples, lcnn_attention, lcnn_fixed, save_model
from lightcnn.runtimes import keras_artifact

METADATA = {
    "task": "voice anti-spoofing",
    "labels": ["spoof", "bonafide"],
    "sampling_rate": RATE,
    "input": {"window_samples": RATE, "pad": "repeat"},
}


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    without_compiling(monkeypatch)


def predictor_of(model, metadata):
    return SpeechPredictor(keras_artifact(model, metadata))


def new_predictor(network, **metadata):
    keras.utils.set_random_seed(3)
    model = from_samples(lfcc_nii(), network())
    predictor = predictor_of(model, {**METADATA, **metadata})
    predictor.model = model
    return predictor


@pytest.fixture(scope="module")
def any_length():
    """An untrained network whose scores differ from file to file."""
    return new_predictor(lambda: lcnn_attention(60, output="score"))


@pytest.fixture(scope="module")
def fixed():
    return new_predictor(lambda: lcnn_fixed((101, 60), output="score"))


@pytest.fixture(scope="module")
def speech():
    """Real utterances of 1 to 4.5 s, as arrays."""
    folder = real_file("data/promptspoof/LA/ASVspoof2019_LA_train/flac")
    return [decode_audio(path, RATE) for path in sorted(folder.iterdir())[:7]]


@pytest.fixture(scope="module")
def files(speech, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for row, samples in enumerate(speech):
        soundfile.write(folder / f"{row}.wav", samples, RATE, subtype="FLOAT")
    return sorted(folder.iterdir())


def scores_of(predictor, paths):
    return [row["score"] for row in predictor.predict(paths)]


# -------------------------------------------------------------------------------------------------------------- files


def test_a_row_has_the_documented_shape(tmp_path_factory, files):
    predictor = Predictor.load(small_run(tmp_path_factory)[0].folder)
    (row,) = predictor.predict(files[:1])
    assert set(row) == {"file", "score", "llr", "label", "threshold", "changes"}
    assert row["file"] == str(files[0])
    assert row["changes"] == ""
    assert type(row["score"]) is type(row["llr"]) is type(row["threshold"]) is float
    assert row["threshold"] == predictor.metadata["threshold"]
    assert row["label"] == ("bonafide" if row["score"] > row["threshold"] else "spoof")
    weights, offset = predictor.metadata["calibration"]["weights"], predictor.metadata["calibration"]["offset"]
    assert row["llr"] == pytest.approx(weights[0] * row["score"] + offset, rel=1e-9)


@pytest.mark.parametrize("which", ["any_length", "fixed"])
def test_arrays_give_rows_as_files_do(which, request, speech, files):
    predictor = request.getfixturevalue(which)
    expected = [{**row, "file": f"array {index}"} for index, row in enumerate(predictor.predict(files))]
    received = list(predictor.predict([speech[0].astype(np.float64), *speech[1:]]))
    assert received == [{**row, "score": pytest.approx(row["score"], abs=1e-5)} for row in expected]


def test_a_long_array_is_the_mean_of_equal_pieces(any_length, speech, monkeypatch):
    monkeypatch.setattr(inference, "_LONGEST_S", 1.0)
    samples = speech[0][: round(1.5 * RATE)]
    (row,) = any_length.predict([samples])
    assert row["score"] == pytest.approx(float(np.mean(any_length.score(list(samples.reshape(2, -1))))), abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(16000, np.float32),
        [np.zeros((2, 16000))],
        [np.zeros(9, np.int16)],
        [np.zeros(0)],
        [[0.0]],
        [np.full(9, np.nan)],
    ],
)
def test_what_is_no_file_and_no_recording_is_refused(any_length, wrong):
    with pytest.raises(DataError, match=r"Expected (samples (of shape|that are finite)|files or arrays).*Received"):
        list(any_length.predict(wrong))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (np.zeros(9, np.int16), r"int16 \(9,\)\. Divide them by 32768\."),
        (np.zeros((2, 9)), r"float64 \(2, 9\)"),
        (np.full(9, np.nan), "NaN or infinity"),
    ],
)
def test_samples_that_would_score_as_well_are_refused(fixed, wrong, hint):
    stream = Stream(fixed)
    stream.push(np.zeros(5))
    for listen in (lambda: fixed.score([wrong]), lambda: stream.push(wrong)):
        with pytest.raises(DataError, match=f"Expected samples.*Received: {hint}"):
            listen()
    (window,) = stream.finish()  # the stream goes on with what it had
    assert window["end_s"] == 5 / RATE


def test_the_pieces_of_a_long_file_count_by_their_lengths(any_length, monkeypatch):
    monkeypatch.setattr(any_length, "score", lambda pieces: np.array([piece.mean() for piece in pieces]))
    assert any_length._mean_score([np.full(60, 1.0), np.full(60, 3.0), np.full(30, -5.0)]) == pytest.approx(0.6)


def test_a_model_without_calibration_gives_no_llr(any_length, files):
    (row,) = any_length.predict(files[:1])
    assert row["llr"] is None
    assert row["threshold"] == 0.0


def test_the_label_changes_at_the_threshold(any_length):
    assert any_length.judged(0.0)["label"] == "spoof"  # a score counts as bona fide above the threshold
    assert any_length.judged(1e-9)["label"] == "bonafide"


def test_order_and_repeats_are_kept_over_batches(fixed, files):
    several = [files[index % len(files)] for index in (*range(0, 70, 3), *range(20, 0, -1))]
    assert len(several) > inference._GROUP
    rows = list(fixed.predict(map(str, several)))
    assert [row["file"] for row in rows] == [str(path) for path in several]
    alone = dict(zip(map(str, files), (scores_of(fixed, [path])[0] for path in files), strict=True))
    assert len(set(alone.values())) == len(files)
    assert [row["score"] for row in rows] == pytest.approx([alone[row["file"]] for row in rows], abs=1e-4)


def test_files_are_read_batch_by_batch(fixed, files):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield files[0]

    next(fixed.predict(endless()))
    assert len(taken) == 2 * inference._GROUP  # one is computed, one is decoded


def test_no_files_give_no_rows(any_length):
    assert list(any_length.predict([])) == []
    assert any_length.score([]).shape == (0,)


def test_bad_files_are_named_and_the_others_done(any_length, files, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no recording")
    (tmp_path / "half.wav").write_bytes(files[1].read_bytes()[:5000])
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    bad = [tmp_path / name for name in ("empty.wav", "text.wav", "half.wav", "nan.wav", "nowhere.wav")]
    asked = [bad[0], files[2], *bad[1:4], files[0], bad[4], tmp_path]
    rows = list(any_length.predict(asked))
    assert [row["file"] for row in rows] == [str(path) for path in asked]
    assert ["error" in row for row in rows] == [True, False, True, True, True, False, True, True]
    for row, cause in zip(
        rows, ("is empty", "", "not a", "truncated", "NaN", "", "no such", "not a file"), strict=True
    ):
        assert cause in row.get("error", "")
        assert row["file"] not in row.get("error", "")
        assert "error" not in row or set(row) == {"file", "error"}
    assert [rows[1]["score"], rows[5]["score"]] == pytest.approx(scores_of(any_length, [files[2], files[0]]), abs=1e-4)


def test_a_padded_batch_scores_as_each_file_alone(any_length, speech):
    together = any_length.score(speech)
    alone = [any_length.score([one])[0] for one in speech]
    assert np.ptp(alone) > 1e-3  # or the comparison says nothing
    assert together == pytest.approx(alone, abs=1e-4)
    model = any_length.model  # not padded to a multiple of anything
    exact = [np.asarray(model([one[None], np.array([len(one)], np.int32)]))[0] for one in speech[:2]]
    assert together[:2] == pytest.approx(exact, abs=1e-4)


def shapes_run_by(predictor, monkeypatch):
    """Returns a list that gets the shape of the samples of every batch from now on."""
    shapes, real = [], predictor._artifact

    def run(arrays):
        shapes.append(arrays[0].shape)
        return real.run(arrays)

    monkeypatch.setattr(predictor, "_artifact", replace(real, run=run))
    return shapes


def test_batches_stay_below_a_budget_of_samples(any_length, speech, monkeypatch):
    expected = any_length.score(speech)
    shapes = shapes_run_by(any_length, monkeypatch)
    monkeypatch.setattr(inference, "_LONGEST_S", 5.0)
    assert any_length.score(speech) == pytest.approx(expected, abs=1e-4)
    assert sum(rows for rows, _ in shapes) == len(speech)
    longest = {length for _, length in shapes}
    assert all(length % 8000 == 0 for length in longest)
    assert all(rows == 1 or rows * (length - 8000) <= 5 * RATE for rows, length in shapes)


def test_a_network_of_fixed_size_hears_the_beginning(fixed, speech, files):
    for row in (0, 3):
        heard = fit_length(speech[row], RATE, pad="repeat")
        expected = np.asarray(fixed.model(heard[None]))[0]
        assert scores_of(fixed, [files[row]])[0] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("pad", ["repeat", "zero", "edge"])
def test_a_short_file_is_filled_as_in_training(fixed, speech, pad):
    predictor = predictor_of(fixed.model, {**METADATA, "input": {"window_samples": RATE, "pad": pad}})
    short = speech[0][:6000]
    expected = np.asarray(fixed.model(fit_length(short, RATE, pad=pad)[None]))[0]
    assert predictor.score([short])[0] == pytest.approx(float(expected), abs=1e-5)


def test_a_long_file_is_the_mean_of_equal_pieces(any_length, speech, tmp_path, monkeypatch):
    long = np.tile(np.concatenate(speech[:3]), 3)
    soundfile.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    heard = []
    real = SpeechPredictor.score

    def score(self, recordings):
        heard.extend(len(one) for one in recordings)
        return real(self, recordings)

    monkeypatch.setattr(inference, "_LONGEST_S", 4.0)
    monkeypatch.setattr(SpeechPredictor, "score", score)
    (row,) = any_length.predict([tmp_path / "long.wav"])
    assert max(heard) <= 4 * RATE  # memory is that of a piece, whatever the file
    assert len(heard) == -(-len(long) // (4 * RATE))
    assert sum(heard) == len(long)
    assert np.ptp(heard) < len(heard)  # equal, but for rounding
    pieces = np.split(long, np.cumsum(heard)[:-1])
    expected = np.mean([real(any_length, [piece])[0] for piece in pieces])
    assert row["score"] == pytest.approx(float(expected), abs=1e-4)
    assert set(row) == {"file", "score", "llr", "label", "threshold", "changes"}


def test_long_short_and_bad_files_keep_their_places(any_length, files, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "_LONGEST_S", 2.5)
    rows = list(any_length.predict([files[0], tmp_path / "nowhere.wav", *files[1:]]))
    assert ["error" in row for row in rows] == [False, True, *[False] * (len(files) - 1)]
    alone = [scores_of(any_length, [path])[0] for path in files]
    assert [row["score"] for row in rows if "score" in row] == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("which", ["any_length", "fixed"])
def test_rate_and_channels_hardly_matter(which, request, speech, tmp_path):
    predictor = request.getfixturevalue(which)
    own = speech[1]
    stereo, fast = np.stack([own, own], axis=1), soxr.resample(own, RATE, 48000, quality="VHQ")
    soundfile.write(tmp_path / "mono.wav", own, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", stereo, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "fast.wav", fast, 48000, subtype="FLOAT")
    rows = list(predictor.predict(tmp_path / f"{name}.wav" for name in ("mono", "stereo", "fast")))
    assert [row["changes"] for row in rows] == ["", "2 channels mixed down", "48,000 Hz -> 16,000 Hz"]
    spread = np.std(predictor.score(speech))
    assert rows[1]["score"] == pytest.approx(rows[0]["score"], abs=1e-5)
    assert abs(rows[2]["score"] - rows[0]["score"]) < spread / 2  # resampling takes the top of the band away


@pytest.mark.parametrize("which", ["any_length", "fixed"])
def test_odd_recordings_have_a_score(which, request, speech, tmp_path):
    odd = {
        "silent": np.zeros(RATE),
        "clipped": np.clip(50 * speech[0], -1, 1),
        "one sample": np.ones(1) / 2,
        "constant": np.full(RATE, 0.5),
        "8 bit": speech[0],
    }
    for name, samples in odd.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="PCM_U8" if name == "8 bit" else "PCM_16")
    scores = scores_of(request.getfixturevalue(which), [tmp_path / f"{name}.wav" for name in odd])
    assert np.isfinite(scores).all()


def test_the_recordings_of_a_folder_are_found(any_length, tmp_path):
    for name in ("b.wav", "a.FLAC", "sub/c.mp3", "list.txt", ".hidden.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = any_length.files_in(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.FLAC", "b.wav", "sub/c.mp3"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        any_length.files_in(tmp_path / "empty")


# ------------------------------------------------------------------------------------------------------------ windows


class Listener:
    """Stands for a predictor: a window's score tells its samples apart, and no network makes it slow."""

    sampling_rate, window_samples = 10, 8

    def score(self, recordings):
        assert all(0 < len(one) <= self.window_samples for one in recordings)
        return np.array([one @ np.arange(1.0, 1 + len(one)) for one in recordings])


def expected_windows(samples, step, window=8, rate=10):
    """All whole windows, and one that ends with the samples if these leave some over."""
    last = len(samples) - window
    starts = list(range(0, last + 1, step)) if last >= 0 else [0] if len(samples) else []
    if last > 0 and starts[-1] != last:
        starts.append(last)
    pieces = [samples[start : start + window] for start in starts]
    return [
        (start / rate, (start + len(piece)) / rate, float(piece @ np.arange(1.0, 1 + len(piece))))
        for start, piece in zip(starts, pieces, strict=True)
    ]


@settings(max_examples=200)
@given(chunks=st.lists(st.integers(0, 40), max_size=12), step=st.integers(1, 8), twice=st.booleans())
def test_a_stream_gives_the_windows_of_the_whole_whatever_the_chunks(chunks, step, twice):
    samples = np.random.default_rng(0).integers(-50, 50, sum(chunks)).astype(np.float32)
    stream = Stream(Listener(), step / 10)
    for _ in range(1 + twice):  # after the end it starts anew
        found, held = [], []
        for chunk in np.split(samples, np.cumsum(chunks)[:-1]) if chunks else []:
            found += stream.push(chunk)
            held.append(len(stream._buffer))
        found += stream.finish()
        rows = [(row["start_s"], row["end_s"], row["score"]) for row in found]
        assert rows == expected_windows(samples, step)
        assert max(held, default=0) <= 8  # what no window needs is let go


@pytest.mark.parametrize("window", [48_000, 64_480, 159_999])
def test_a_step_may_be_exactly_a_window(window):
    """64,480 / 16,000 times 16,000 is more than 64,480."""
    listener = SimpleNamespace(window_samples=window, sampling_rate=16_000)
    assert Stream(listener, window / 16_000)._step == window


def test_a_score_that_is_not_finite_is_an_error_and_the_stream_goes_on():
    class Overflowing(Listener):
        def score(self, recordings):
            return super().score(recordings).astype(np.float32)

    stream = Stream(Overflowing(), 0.8)
    with np.errstate(over="ignore"), pytest.raises(DataError, match="window at 0 s is not finite"):
        stream.push(np.full(8, 3e38, np.float32))
    assert [row["start_s"] for row in stream.push(np.zeros(16, np.float32))] == [0.0, 0.8]


def test_a_recording_without_a_score_is_named(any_length, files, monkeypatch):
    monkeypatch.setattr(any_length, "score", lambda recordings: np.array([1.0, np.nan])[: len(recordings)])
    first, second = any_length.predict(files[:2])
    assert first["score"] == 1.0
    assert set(second) == {"file", "error"}
    assert "not finite" in second["error"]


def test_a_window_comes_as_soon_as_it_is_complete():
    stream = Stream(Listener())
    assert stream.push(np.zeros(7, np.float32)) == []
    assert [row["start_s"] for row in stream.push(np.zeros(1, np.float32))] == [0.0]
    assert stream.push(np.zeros(3, np.float32)) == []
    assert [(row["start_s"], row["end_s"]) for row in stream.push(np.zeros(1, np.float32))] == [(0.4, 1.2)]
    assert stream.finish() == []  # nothing is left that no window covered


@pytest.mark.parametrize("step_s", [0, -1, 0.9, 0.04])
def test_a_step_is_a_sample_to_a_window(step_s):
    with pytest.raises(ValueError, match=r"`step_s` must be above 0 and at most a window, 0.8 s. Received: step_s="):
        Stream(Listener(), step_s)


@pytest.mark.parametrize("which", ["any_length", "fixed"])
def test_the_windows_of_a_file_are_those_of_its_stream(which, request, speech, tmp_path):
    predictor = request.getfixturevalue(which)
    long = np.concatenate(speech[:4])[: 5 * RATE + 3000]
    soundfile.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    windows = list(predictor.windows(tmp_path / "long.wav"))
    stream = Stream(predictor)
    pushed = [row for chunk in np.array_split(long, 23) for row in stream.push(chunk)] + stream.finish()
    assert [(row["start_s"], row["end_s"]) for row in windows] == [(row["start_s"], row["end_s"]) for row in pushed]
    assert [row["score"] for row in windows] == pytest.approx([row["score"] for row in pushed], abs=1e-4)
    assert windows[0]["start_s"] == 0
    assert windows[-1]["end_s"] == len(long) / RATE
    cut = [long[round(row["start_s"] * RATE) : round(row["end_s"] * RATE)] for row in windows]
    assert {len(piece) for piece in cut} == {RATE}
    assert [row["score"] for row in windows] == pytest.approx(predictor.score(cut).tolist(), abs=1e-4)


@pytest.mark.parametrize("which", ["any_length", "fixed"])
def test_a_file_shorter_than_a_window_is_one_window(which, request, speech, tmp_path):
    predictor = request.getfixturevalue(which)
    soundfile.write(tmp_path / "short.wav", speech[0][:5000], RATE, subtype="FLOAT")
    (window,) = predictor.windows(tmp_path / "short.wav")
    assert (window["start_s"], window["end_s"]) == (0.0, 5000 / RATE)
    assert window["score"] == pytest.approx(scores_of(predictor, [tmp_path / "short.wav"])[0], abs=1e-4)


def test_many_windows_are_not_computed_at_once(fixed, monkeypatch):
    shapes = shapes_run_by(fixed, monkeypatch)
    windows = Stream(fixed, 0.01).push(np.zeros(3 * RATE, np.float32))
    assert len(windows) == sum(rows for rows, _ in shapes) == 201
    assert max(rows * samples for rows, samples in shapes) == 8 * RATE


def test_windows_too_long_to_share_a_batch_are_computed_alone(fixed, monkeypatch):
    expected = [window["score"] for window in Stream(fixed).push(np.ones(2 * RATE, np.float32))]
    shapes = shapes_run_by(fixed, monkeypatch)
    monkeypatch.setattr(inference, "_FIXED_S", 0.5)
    windows = Stream(fixed).push(np.ones(2 * RATE, np.float32))
    assert shapes == [(1, RATE)] * 3
    assert [window["score"] for window in windows] == pytest.approx(expected, abs=1e-4)


# ------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    "broken",
    [
        {"sampling_rate": None},
        {"input": None},
        {"input": {"window_samples": 16000}},
        {"input": {"window_samples": "many", "pad": "repeat"}},
        {"threshold": "high"},
    ],
)
def test_metadata_that_do_not_say_enough_are_named(any_length, broken):
    with pytest.raises(ModelFileError, match="must have `sampling_rate`, and `input`"):
        predictor_of(any_length.model, {**METADATA, **broken})


def test_a_model_of_another_shape_is_named(tmp_path):
    model = keras.Sequential([keras.Input((101, 60)), keras.layers.Flatten(), keras.layers.Dense(2)])
    save_model(model, tmp_path / "other.keras", METADATA)
    with pytest.raises(ModelFileError, match="Expected a model from samples"):
        Predictor.load(tmp_path / "other.keras")


def test_a_model_that_hears_another_length_is_named():
    inputs = keras.Input((RATE // 2,))
    model = keras.Model(inputs, keras.ops.mean(inputs, axis=1))
    with pytest.raises(ModelFileError, match=r"Received: 8000 samples, window_samples=16000"):
        predictor_of(model, METADATA)


def test_a_model_for_another_task_is_named(any_length, tmp_path):
    save_model(any_length.model, tmp_path / "music.keras", {**METADATA, "task": "music"})
    with pytest.raises(
        ModelFileError, match=r"is for another task. Expected image classification, voice anti-spoofing"
    ):
        Predictor.load(tmp_path / "music.keras")


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("which", ["any_length", "fixed"])
def test_an_artifact_gives_the_same_rows(which, request, files, tmp_path, streams):
    predictor = request.getfixturevalue(which)
    save_model(predictor.model, tmp_path / "model.keras", METADATA)
    artifact = Predictor.load(export(tmp_path / "model.keras").path, streams)
    asked = [tmp_path / "nowhere.wav", *files, *files[::-1]]
    first, *rows = artifact.predict(asked)
    assert first == {"file": str(asked[0]), "error": "no such file"}
    assert [row["file"] for row in rows] == [str(path) for path in asked[1:]]
    expected = scores_of(predictor, files)
    spread = np.ptp(expected)
    assert [row["score"] for row in rows] == pytest.approx([*expected, *expected[::-1]], abs=1e-3 * spread)
    windows = [[row["score"] for row in one.windows(files[0])] for one in (artifact, predictor)]
    assert windows[0] == pytest.approx(windows[1], abs=1e-3 * spread)


def test_a_saved_model_scores_as_before(any_length, files, tmp_path):
    save_model(any_length.model, tmp_path / "model.keras", METADATA)
    loaded = Predictor.load(tmp_path / "model.keras")
    assert isinstance(loaded, SpeechPredictor)
    assert scores_of(loaded, files[:2]) == pytest.approx(scores_of(any_length, files[:2]), abs=1e-5)
