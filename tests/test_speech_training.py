"""Countermeasures train on real speech, repeat themselves, and every network and head learns the right sign."""

import csv
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import keras
import numpy as np
import pytest
import soundfile
from conftest import real_file, without_compiling

from lightcnn.augmentation.codecs import mu_law
from lightcnn.datasets import load_speech
from lightcnn.decoding import decode_audio
from lightcnn.errors import BadFilesError, DataError, RecipeError
from lightcnn.layers.heads import HEADS
from lightcnn.models import load_model, read_metadata, save_model
from lightcnn.recipes import get_recipe
from lightcnn.runs import Run
from lightcnn.scoring import score
from lightcnn.training import fitting, speech, train

RATE = 16000
PROTOCOLS = "ASVspoof2019_LA_cm_protocols"
# split -> its protocol, and how many of its lines are kept: both classes and both speakers are among them
LISTS = {"train": ("train.trn", 12), "dev": ("dev.trl", 12), "eval": ("eval.trl", 16)}
FILES = {
    *("recipe.json", "environment.json", "history.csv", "checkpoint", "best.keras", "metrics.json"),
    *("scores.csv", "scores.txt", "report.html", "model.onnx"),
}
FIGURES = {
    *("utterances", "bona_fide", "accuracy", "threshold", "eer", "eer_threshold", "min_tdcf_legacy", "min_tdcf"),
    *("min_dcf", "act_dcf", "cllr", "min_cllr", "per_attack", "per_speaker", "per_condition"),
}


def recipe(**values):
    small = {"model": "lcnn_attention", "epochs": 2, "batch_size": 6, "duration_s": 1.0, "precision": "float32"}
    return get_recipe("asvspoof2019_la", **{**small, **values})


def write_corpus(root):
    """Lays out a small part of the real corpus as ASVspoof 2019 LA, with protocols of a few lines."""
    real = real_file("data/promptspoof/LA")
    (root / PROTOCOLS).mkdir(parents=True)
    for split, (name, count) in LISTS.items():
        file = f"{PROTOCOLS}/ASVspoof2019.LA.cm.{name}.txt"
        (root / file).write_text("\n".join((real / file).read_text().splitlines()[:count]) + "\n")
        (root / f"ASVspoof2019_LA_{split}").mkdir()
        (root / f"ASVspoof2019_LA_{split}" / "flac").symlink_to(real / f"ASVspoof2019_LA_{split}" / "flac")
    return root


def small_run(tmp_path_factory):
    """Returns a finished run on a small part of real data, and its corpus; one for all test files of a session."""
    return _small_run(tmp_path_factory.getbasetemp())


@cache
def _small_run(place):
    folder = Path(mkdtemp(prefix="speech-", dir=place))
    corpus = write_corpus(folder / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        without_compiling(patch)
        return train(recipe(), folder / "run", corpus, quiet=True), corpus


def reread(scores, **options):
    """Measures a score file; that an untrained network may have its sign the wrong way round is no matter here."""
    return score(scores, warn=lambda message: None, **options)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    without_compiling(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_run(tmp_path_factory)[1]


def history(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]


def assert_same_run(run, other):
    first, second = (load_model(one.best_model).get_weights() for one in (run, other))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert history(run) == history(other)
    assert {**run.metrics, "train_seconds": 0} == {**other.metrics, "train_seconds": 0}
    assert run.scores.read_bytes() == other.scores.read_bytes()
    assert read_metadata(run.best_model) == read_metadata(other.best_model)


# ---------------------------------------------------------------------------------------------------- a run on speech


def test_a_finished_run_folder(whole):
    assert {path.name for path in whole.folder.iterdir()} == FILES
    assert whole.recipe == recipe()
    assert [row["epoch"] for row in whole.history] == [1, 2]
    environment = whole.environment
    assert environment["data"]["sizes"] == {"train": 12, "validation": 12, "test": 16}
    assert environment["data"]["labels"] == ["spoof", "bonafide"]
    assert environment["layers"][-1]["class"] == "BonaFideScore"


def test_metrics_have_the_documented_shape(whole):
    metrics = whole.metrics
    assert set(metrics) == {"train_seconds", "parameters", "validation", "test"}
    assert metrics["parameters"] == load_model(whole.best_model).count_params()
    for split, count in (("validation", 12), ("test", 16)):
        figures = metrics[split]
        assert set(figures) == FIGURES
        assert figures["utterances"] == count
        assert 0 < figures["bona_fide"] < count
        assert figures["min_tdcf"] is figures["min_tdcf_legacy"] is None  # no ASV scores
        assert all(0 <= figures[key] <= 1 for key in ("eer", "accuracy", "min_cllr"))
        assert set(figures["per_speaker"]) == ({"PS_0003", "PS_0005"} if split == "test" else {"PS_0001", "PS_0002"})


def test_the_model_file_says_all_that_predicting_needs(whole):
    metadata, validation = read_metadata(whole.best_model), whole.metrics["validation"]
    assert metadata["task"] == "voice anti-spoofing"
    assert metadata["labels"] == ["spoof", "bonafide"]
    assert metadata["sampling_rate"] == RATE
    assert metadata["score"] == "higher = more bona fide"
    # The fewest samples that give the front end's frames of a second.
    assert metadata["input"] == {"window_samples": 15_841, "pad": "repeat"}
    assert metadata["threshold"] == validation["threshold"] == validation["eer_threshold"]
    assert metadata["threshold_from"] == "equal error rate on validation"
    assert len(metadata["calibration"]["weights"]) == 1
    assert np.isfinite([*metadata["calibration"]["weights"], metadata["calibration"]["offset"]]).all()
    assert whole.metrics["test"]["threshold"] == metadata["threshold"]  # chosen on validation, used on test


def test_the_best_epoch_is_chosen_on_validation(whole):
    losses = [row["val_loss"] for row in whole.history]
    assert read_metadata(whole.best_model)["epoch"] == losses.index(min(losses)) + 1


def test_score_files_give_the_same_figures(whole, corpus):
    figures, again = whole.metrics["test"], reread(whole.folder / "scores.txt")
    assert again["eer"] == pytest.approx(figures["eer"], abs=1e-12)
    assert again["min_dcf"] == pytest.approx(figures["min_dcf"], abs=1e-12)
    assert again["per_attack"] == pytest.approx(figures["per_attack"], abs=1e-12)
    with whole.scores.open(newline="") as file:
        rows = list(csv.DictReader(file))
    protocol = (corpus / PROTOCOLS / "ASVspoof2019.LA.cm.eval.trl.txt").read_text().split("\n")[:-1]
    columns = ("speaker", "utterance", "condition", "attack", "label")
    assert [" ".join(row[name] for name in columns) for row in rows] == protocol
    scores = [float(row["score (higher = more bona fide)"]) for row in rows]
    assert len(set(scores)) == len(scores)
    assert [line.split() for line in (whole.folder / "scores.txt").read_text().splitlines()] == [
        [row["utterance"], row["attack"], row["label"], row["score (higher = more bona fide)"]] for row in rows
    ]


def test_one_seed_gives_one_model(whole, corpus, tmp_path):
    keras.utils.set_random_seed(99)  # what happened before in the process does not matter
    assert_same_run(train(recipe(), tmp_path / "again", corpus, quiet=True), whole)


def test_an_interrupted_run_goes_on(whole, corpus, tmp_path, monkeypatch):
    real = fitting.Recorder.on_train_batch_end

    def on_train_batch_end(self, index, logs=None):
        real(self, index, logs)
        if self._state.epochs == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Recorder, "on_train_batch_end", on_train_batch_end)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), tmp_path / "run", corpus, quiet=True)
    run = Run.open(tmp_path / "run")
    assert len(run.history) == 1
    unmeasured = read_metadata(run.best_model)
    assert (unmeasured["threshold"], unmeasured["threshold_from"]) == (0.55, "the head's own, not measured")
    train(recipe(), run.folder, corpus, resume=True, quiet=True)
    assert_same_run(run, whole)
    assert {path.name for path in run.folder.iterdir()} == FILES


@pytest.mark.slow
def test_a_compiled_training_is_the_same(whole, corpus, tmp_path, monkeypatch):
    """The other tests run step by step, and users do not."""
    monkeypatch.delattr(keras.Model, "run_eagerly")
    run = train(recipe(), tmp_path / "compiled", corpus, quiet=True)
    for row, other in zip(run.history, whole.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)


# ------------------------------------------------------------------------------------------------------------ batches


def write_recordings(folder, recordings, split="train"):
    """Writes recordings (name -> samples) and their CSV; they are bona fide and spoofed in turn, all in one split."""
    folder.mkdir(exist_ok=True)
    lines = ["file,label,split"]
    for row, (name, samples) in enumerate(recordings.items()):
        soundfile.write(folder / name, samples, RATE)
        lines.append(f"{name},{('bonafide', 'spoof')[row % 2]},{split}")
    for other in ("dev", "eval") if split == "train" else ():
        soundfile.write(folder / f"{other}.wav", ramp(1000), RATE)
        lines.append(f"{other}.wav,spoof,{other}")  # so that nothing is held out of train
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return load_speech("csv", folder / "list.csv")


def ramp(count):
    """A recording whose every sample says where it stands."""
    return np.arange(count, dtype=np.int16)


@pytest.fixture
def ramps(tmp_path):
    return write_recordings(tmp_path / "ramps", {f"{n}.wav": ramp(n) for n in (30000, 4000, 20000, 16000)})


def own(**values):
    """A recipe for one's own recordings; the front end's steps of 10 ms make 0.5 s exactly 8,000 samples."""
    return get_recipe("speech", **{"duration_s": 0.5, "precision": "float32", **values})


def batch(settings, data, seed=0):
    inputs, labels = speech.training_batch(settings, data, np.arange(len(data.train)), np.random.default_rng(seed))
    return inputs, labels


def starts(samples, lengths):
    """Checks that every crop is a piece of its ramp, and returns where the pieces start."""
    places = np.rint(samples * 32768).astype(int)
    for row, length in enumerate(lengths):
        assert places[row, :length].tolist() == list(range(places[row, 0], places[row, 0] + length))
        assert not places[row, length:].any()
    return places[:, 0].tolist()


def test_random_crops_are_seeded_and_inside_the_file(ramps):
    (samples, lengths), labels = batch(own(), ramps)
    assert samples.shape == (4, 8000)
    assert samples.dtype == np.float32
    assert lengths.tolist() == [8000, 4000, 8000, 8000]
    assert labels.tolist() == [1, 0, 1, 0]
    first = starts(samples, lengths)
    assert first[1] == 0
    assert all(0 < start <= count - 8000 for start, count in zip(first, (30000, 0, 20000, 16000), strict=True) if count)
    (again, _), _ = batch(own(), ramps)
    assert np.array_equal(samples, again)
    (other, _), _ = batch(own(), ramps, seed=1)
    assert starts(other, lengths)[0] != first[0]


def test_crops_reach_the_whole_file(ramps):
    found = [starts(*batch(own(), ramps, seed)[0])[0] for seed in range(60)]
    assert min(found) < 3000  # of 0 to 22,000; by chance outside with a probability below 1e-3
    assert max(found) > 19000


def test_the_last_sample_is_heard_too(tmp_path):
    data = write_recordings(tmp_path / "longer", {"a.wav": ramp(8001), "b.wav": ramp(8001)})
    found = {start for seed in range(20) for start in starts(*batch(own(), data, seed)[0])}
    assert found == {0, 1}


@pytest.mark.parametrize(("crop", "expected"), [("first", [0, 0, 0, 0]), ("centre", [11000, 0, 6000, 4000])])
def test_crops_that_are_not_random(ramps, crop, expected):
    assert starts(*batch(own(crop=crop), ramps)[0]) == expected


def test_a_file_does_not_move_the_crops_after_it(ramps, tmp_path):
    changed = write_recordings(tmp_path / "changed", {f"{n}.wav": ramp(n) for n in (500, 4001, 20000, 16000)})
    assert starts(*batch(own(), ramps)[0])[2:] == starts(*batch(own(), changed)[0])[2:]


def test_other_seeds_give_other_crops_and_orders(ramps):
    def batches(seed):
        settings = own(seed=seed, batch_size=2)
        made = fitting.Batches(4, settings, lambda order, stream: (order.tolist(), stream.random()))
        return [made[0], made[1]]

    assert batches(0) == batches(0)
    assert [place for _, place in batches(0)] != [place for _, place in batches(1)]


@pytest.mark.parametrize(
    ("pad", "tail"),
    [("repeat", [0, 1, 2]), ("zero", [0, 0, 0]), ("edge", [3999, 3999, 3999])],
    ids=lambda one: str(one),
)
def test_networks_of_fixed_size_get_short_files_filled(ramps, pad, tail):
    samples, _ = batch(own(model="lcnn_fixed", pad=pad), ramps)
    assert samples.shape == (4, 8000)
    places = np.rint(samples[1] * 32768).astype(int)
    assert places[:4000].tolist() == list(range(4000))
    assert places[4000:4003].tolist() == tail
    (unfilled, lengths), _ = batch(own(), ramps)
    assert lengths[1] == 4000
    assert not unfilled[1, 4000:].any()


def test_crops_of_an_mp3_are_pieces_of_it(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 3 * RATE)).astype(np.float32)
    data = write_recordings(tmp_path / "mp3", {f"{row}.mp3": noise[row] for row in range(2)})
    (samples, lengths), _ = batch(own(), data)
    for row in range(2):
        whole_file = decode_audio(data.train.path(row), RATE)
        windows = np.lib.stride_tricks.sliding_window_view(whole_file, 8000)
        (found,) = np.flatnonzero((windows[:, :16] == samples[row, :16]).all(axis=1))
        assert found > 0
        assert np.array_equal(windows[found], samples[row])
        assert lengths[row] == 8000


def test_validation_takes_the_beginnings(ramps, tmp_path):
    data = write_recordings(tmp_path / "dev", {f"{n}.wav": ramp(n) for n in (9000, 3000)}, split="dev")
    (samples, lengths), labels = speech.validation_batch(own(noise=1.0), data, np.array([1, 0]))
    assert lengths.tolist() == [3000, 8000]
    assert starts(samples, lengths) == [0, 0]
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("model", ["lcnn_attention", "lcnn_fixed"])
def test_masks_are_for_training_and_leave_no_trace(ramps, model):
    networks, _ = speech.build_networks(own(model=model, max_masked_frames=20, max_masked_bins=10), ramps)
    networks.saved.set_weights(networks.trained.get_weights())
    (samples, lengths), _ = batch(own(), ramps)
    inputs = (samples, lengths) if len(networks.trained.inputs) == 2 else samples
    still, masked = (
        keras.ops.convert_to_numpy(networks.trained(inputs, training=training)) for training in (False, True)
    )
    plain, _ = speech.build_networks(own(model=model), ramps)
    plain.trained.set_weights(networks.saved.get_weights())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(plain.trained(inputs, training=False)), still, atol=1e-5)
    assert np.abs(masked - still).max() > 1e-3
    assert not any("mask" in variable.path for variable in networks.saved.variables)


@pytest.mark.parametrize("key", ["room", "noise", "convolutive", "impulsive", "stationary", "max_gain_db", "codec"])
def test_every_augmentation_reaches_the_batch(ramps, key):
    (plain, _), _ = batch(own(), ramps)
    changed, again = (batch(own(**{key: 1.0}), ramps)[0][0] for _ in range(2))
    assert changed.shape == plain.shape
    assert changed.dtype == np.float32
    assert not np.allclose(changed, plain, atol=1e-4)
    assert np.array_equal(changed, again)


@pytest.mark.parametrize("key", ["room", "noise", "convolutive", "impulsive", "stationary"])
def test_short_recordings_are_changed_as_those_that_fill_the_batch(tmp_path, key):
    """So noise is as strong beside the speech of a short recording, whatever follows it."""
    sound = np.random.default_rng(3).normal(0, 0.1, 4000).astype(np.float32)
    short, twice = (
        write_recordings(tmp_path / name, {"one.wav": samples})
        for name, samples in (("short", sound), ("twice", np.tile(sound, 2)))
    )
    (samples, lengths), _ = batch(own(**{key: 1.0}), short)
    (expected, _), _ = batch(own(**{key: 1.0}), twice)
    assert lengths.tolist() == [4000]
    np.testing.assert_array_equal(samples[0, :4000], expected[0, :4000])
    assert not samples[0, 4000:].any()


def test_gain_and_codec_are_what_they_say(ramps):
    (plain, _), _ = batch(own(), ramps)
    (louder, _), _ = batch(own(max_gain_db=6.0), ramps)
    gains = 20 * np.log10(np.linalg.norm(louder, axis=1) / np.linalg.norm(plain, axis=1))
    assert np.all(np.abs(gains) <= 6.001)
    assert np.ptp(gains) > 0.1  # each its own
    (coded, _), _ = batch(own(codec=1.0, codecs="mulaw"), ramps)
    assert np.array_equal(coded, mu_law(plain))


# --------------------------------------------------------------------------------------------------- networks and heads


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """Bona fide: a hum with harmonics. Spoofed: noise."""
    generator, time_s = np.random.default_rng(0), np.arange(RATE) / RATE
    recordings = {}
    for row in range(4):
        hum = sum(np.sin(2 * np.pi * (150 + 20 * row) * k * time_s) / k for k in range(1, 5))
        recordings[f"{row}-hum.wav"] = 0.1 * hum + generator.normal(0, 1e-3, RATE)
        recordings[f"{row}-noise.wav"] = generator.normal(0, 0.1, RATE)
    return write_recordings(tmp_path_factory.mktemp("easy"), recordings)


NETWORKS = ("lcnn_fixed", "stc2019", "stc2017", "lcnn_attention", "lcnn_lstm_sum")
PAIRS = [(model, "sigmoid") for model in NETWORKS] + [("lcnn_fixed", head) for head in HEADS if head != "sigmoid"]


@pytest.mark.parametrize(("model", "head"), PAIRS)
def test_every_network_and_head_learns_the_right_sign(easy, model, head):
    keras.utils.set_random_seed(0)
    settings = own(model=model, head=head, duration_s=1.0, dropout=0.0, crop="first", balanced=False)
    networks, notes = speech.build_networks(settings, easy)
    assert notes == []
    for layer in networks.trained.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.3  # a dozen steps are too few for the usual moving statistics
    networks.trained.compile(keras.optimizers.Adam(2e-3), networks.loss, metrics=[networks.accuracy])
    inputs, labels = batch(settings, easy)

    def gap():
        networks.saved.set_weights(networks.trained.get_weights())
        scores = networks.saved.predict_on_batch(list(inputs) if isinstance(inputs, tuple) else inputs)
        assert scores.shape == (8,)
        return scores[labels == 1].mean() - scores[labels == 0].mean()

    losses = []
    for _ in range(12):
        losses.append(float(networks.trained.train_on_batch(inputs, labels)[0]))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert gap() > 0


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        ("softmax", [[0.0, 0.1], [0.3, 0.2], [5.0, 4.0]]),
        ("am_softmax", [[-0.1, 0.1], [0.3, 0.2], [0.1, -0.9]]),
        ("sigmoid", [[0.1], [-0.1], [-5.0]]),
        ("oc_softmax", [[0.6], [0.5], [-0.5]]),
        ("a_softmax", [[[0.0, 9.0], [0.1, -9.0]], [[0.3, -9.0], [0.2, 9.0]], [[5.0, 0.0], [4.0, 9.0]]]),
    ],
)
def test_accuracy_is_at_the_heads_own_threshold(head, outputs):
    """The decisions are: bona fide, spoofed, spoofed."""
    accuracy = speech._accuracy(head)
    hits = keras.ops.convert_to_numpy(accuracy(np.array([1, 1, 0]), np.array(outputs, np.float32)))
    assert hits.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(("head", "bona_fide", "spoofed"), [("oc_softmax", 0.9, 0.2), ("p2sgrad", 1.0, 0.0)])
def test_an_unmeasured_threshold_lies_between_what_cosines_are_pulled_to(easy, head, bona_fide, spoofed):
    """The margins of OC-softmax, and the targets of P2SGrad."""
    networks, _ = speech.build_networks(own(head=head, balanced=False), easy)
    assert networks.metadata["threshold"] == pytest.approx((bona_fide + spoofed) / 2)


def test_balanced_classes_weigh_the_same(corpus):
    data = load_speech("asvspoof2019_la", corpus)
    networks, _ = speech.build_networks(recipe(head="sigmoid", balanced=True), data)
    spoofed, bona_fide = networks.loss.class_weights
    counts = np.bincount(data.train.labels)
    assert spoofed * counts[0] == pytest.approx(bona_fide * counts[1])
    unbalanced, _ = speech.build_networks(recipe(head="sigmoid"), data)
    assert unbalanced.loss.class_weights is None


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_corpus_must_be_named(tmp_path):
    with pytest.raises(DataError, match=r"asvspoof2019_la needs a corpus: name its folder with --data-dir"):
        train(recipe(), tmp_path / "run", None, quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_unknown_front_end_names_the_nearest(corpus, tmp_path):
    with pytest.raises(RecipeError, match=r"front_end must be one of .* Did you mean 'lfcc_nii'\?"):
        train(recipe(front_end="lfcc_ni"), tmp_path / "run", corpus, quiet=True)


@pytest.mark.parametrize("codecs", ["mulaw,gsm", ""])
def test_unknown_codecs_are_named_before_a_run_is_begun(corpus, tmp_path, codecs):
    with pytest.raises(RecipeError, match="`codecs` must name"):
        train(recipe(codec=0.5, codecs=codecs), tmp_path / "run", corpus, quiet=True)
    assert not (tmp_path / "run").exists()


def test_training_data_of_one_class_are_named(tmp_path):
    data = write_recordings(tmp_path / "one", {"a.wav": ramp(9000)})
    with pytest.raises(DataError, match="has no spoof recording to train on"):
        speech.build_networks(own(balanced=True), data)


def test_a_head_of_another_kind_is_new(corpus, tmp_path):
    data = load_speech("asvspoof2019_la", corpus)
    before, _ = speech.build_networks(recipe(head="sigmoid"), data)
    save_model(before.saved, tmp_path / "sigmoid.keras", before.metadata)
    after, notes = speech.build_networks(recipe(head="softmax", initial_weights=str(tmp_path / "sigmoid.keras")), data)
    assert notes[1] == "The layer 'head' is new: weights of 192 x 1 and 1 there, weights of 192 x 2 and 2 here."
    for ours, its in zip(after.trained.get_weights()[:20], before.saved.get_weights()[:20], strict=True):
        np.testing.assert_array_equal(ours, its)


def test_weights_for_another_front_end_are_refused(corpus, tmp_path):
    data = load_speech("asvspoof2019_la", corpus)
    before, _ = speech.build_networks(recipe(model="lcnn_lstm_sum", front_end="lfcc_nii"), data)
    save_model(before.saved, tmp_path / "nii.keras", before.metadata)
    settings = {"model": "lcnn_lstm_sum", "initial_weights": str(tmp_path / "nii.keras")}
    with pytest.raises(RecipeError, match=r"its front end is .*Received: .*Choose the front_end of the first training"):
        speech.build_networks(recipe(front_end="lfcc_asvspoof2021", **settings), data)
    _, notes = speech.build_networks(recipe(front_end="lfcc_nii", **settings), data)
    assert len(notes) == 1


def test_a_run_is_not_deleted_for_a_corpus_without_validation(whole, corpus, tmp_path):
    train_only = tmp_path / "corpus"
    shutil.copytree(corpus, train_only, symlinks=True)
    shutil.rmtree(train_only / "ASVspoof2019_LA_dev")
    run = tmp_path / "run"
    shutil.copytree(whole.folder, run)
    with pytest.raises(DataError, match="no split 'validation'"):
        train(recipe(), run, train_only, overwrite=True, quiet=True)
    assert (run / "best.keras").exists()
    assert (run / "metrics.json").exists()


def test_a_bad_recording_of_the_test_split_costs_only_its_figures(corpus, tmp_path):
    damaged = tmp_path / "corpus"
    shutil.copytree(corpus, damaged)  # the recordings themselves, not links to them
    protocol = damaged / PROTOCOLS / "ASVspoof2019.LA.cm.eval.trl.txt"
    bad = damaged / "ASVspoof2019_LA_eval" / "flac" / f"{protocol.read_text().split()[1]}.flac"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(BadFilesError, match=bad.name):
        train(recipe(epochs=1), tmp_path / "run", damaged, quiet=True)
    run = Run.open(tmp_path / "run")
    assert set(run.metrics) == {"train_seconds", "parameters", "validation"}
    assert {path.name for path in run.folder.iterdir()} == {
        *(FILES - {"scores.csv", "scores.txt"}),
        *("scores-validation.csv", "scores-validation.txt"),
    }
    assert "calibration" in read_metadata(run.best_model)


def test_too_short_a_crop_for_the_network_is_a_clear_error(corpus, tmp_path):
    with pytest.raises(RecipeError, match="at least 32"):
        train(recipe(model="stc2017", duration_s=0.2), tmp_path / "run", corpus, quiet=True)


def test_a_corpus_without_train_is_named(tmp_path):
    data = write_recordings(tmp_path / "dev", {"a.wav": ramp(9000), "b.wav": ramp(9000)}, split="dev")
    with pytest.raises(RecipeError, match=r"has nothing to train on. It has: validation"):
        speech.build_networks(own(), data)
