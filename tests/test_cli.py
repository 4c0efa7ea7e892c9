"""The command line: exit codes, messages without tracebacks, data on stdout and the rest on stderr."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import keras
import numpy as np
import pytest
from conftest import begin, environment_of, now
from PIL import Image

from lightcnn import __version__
from lightcnn.cli import group
from lightcnn.cli.group import OUTPUT_FILE
from lightcnn.errors import BadFilesError
from lightcnn.exporting import export
from lightcnn.files import file_digest
from lightcnn.models import lcnn, save_model
from lightcnn.recipes import get_recipe, recipe_names
from lightcnn.runs import Run
from lightcnn.training import train

SMALL = ("--set", "epochs=1", "--set", "batch_size=64", "--set", "precision=float32")


def lightcnn(*arguments, **options):
    command = [sys.executable, "-m", "lightcnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def data(mnist_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    with np.load(mnist_folder / "mnist.npz") as mnist:
        np.savez(path, **{key: mnist[key][: 256 if "train" in key else 100] for key in mnist.files})
    return path


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    recipe = get_recipe("arrays", epochs=2, batch_size=64, precision="float32", batch_norm_momentum=0.5)
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return train(recipe, folder, data, quiet=True, command="lightcnn train arrays")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(3)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    metadata = {
        "task": "image classification",
        "labels": ["cat", "a longer name", "bird"],
        "input": {"shape": [28, 28, 1], "dtype": "uint8"},
    }
    save_model(lcnn((28, 28, 1), 3, scale=1 / 64, offset=-1.0), path, metadata)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (28, 28), np.uint8) // (1 + index)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


# ---------------------------------------------------------------------------------------------------------- general


def test_the_version(call):
    result = call("--version")
    assert (result.code, __version__ in result.out) == (0, True)


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["compare"], ["predict"], ["score"], ["info"]])
def test_every_command_has_help(call, command):
    result = call(*command, "--help")
    assert result.code == 0
    assert "Usage: " in result.out
    assert result.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian", "mnist"],
        ["train"],
        ["train", "mnist", "--epochs", "3"],
        ["train", "mnist", "--resume"],
        ["train", "mnist", "--run-dir", "x", "--resume", "--overwrite"],
        ["train", "mnist", "--seed", "1", "--seeds", "1,2"],
        ["train", "mnist", "--seed", "1", "--set", "seed=2"],
        ["train", "mnist", "--seeds", "1,2", "--set", "seed=2"],
        ["train", "mnist", "--seed", "one"],
        ["train", "mnist", "--seed", "-1"],
        ["train", "mnist", "--seeds", "1,1"],
        ["train", "mnist", "--seeds", "1,two"],
        ["train", "mnist", "--seeds", ""],
        ["train", "mnist", "--seeds", "1,-2"],
        ["evaluate"],
        ["evaluate", ".", "--split", "dev"],
        ["compare"],
        ["predict"],
        ["predict", "model.keras"],
        ["predict", "model.keras", "a.png", "--format", "xml"],
        ["predict", "model.keras", "--files-from", "no-such-list.txt"],
        ["predict", "model.keras", "a.png", "--output", "."],
        ["predict", "model.keras", "a.png", "--output", "/dev/null/a.csv"],
        ["convert", "light_cnn_9.pth", "--output", "light_cnn_9.h5"],
        ["score"],
        ["score", "a.txt", "b.txt"],
        ["score", "a.txt", "--format", "csv"],
        ["info", "no-such-thing"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(call, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Error: " in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnst"], "There is no recipe 'mnst'. Did you mean 'mnist'? Known: arrays, "),
        (["train", "mnist", "--set", "epoch=3"], "A recipe has no key 'epoch'. Did you mean 'epochs'?"),
        (["train", "mnist", "--set", "epochs=many"], "epochs must be a whole number. Received: epochs='many'"),
        (["train", "mnist", "--set", "epochs=0"], "epochs must be from 1 to 100000. Received: epochs=0"),
        (["train", "mnist", "--set", "optimizer=lion"], "optimizer must be one of adam, adamw"),
        (["train", "mnist", "--set", "flip"], "A setting is KEY=VALUE. Received: 'flip'"),
        (["info", "mnst"], "Did you mean 'mnist'?"),
    ],
)
def test_the_message_says_what_was_meant(call, arguments, message):
    result = call(*arguments)
    assert result.code == 2
    assert message in result.err


def test_failures_are_1(call, tmp_path, data):
    for arguments, message in (
        (["train", "arrays", "--run-dir", tmp_path / "a", "--data-dir", tmp_path / "nowhere.npz"], "nowhere.npz"),
        (["train", "arrays", "--run-dir", tmp_path / "b"], "name its folder with --data-dir"),
        (["evaluate", tmp_path / "nowhere"], "does not exist"),
        (["evaluate", data.parent], "not a run folder"),
        (["compare", tmp_path / "nowhere"], "does not exist"),
        (["predict", tmp_path / "nowhere.keras", "a.png"], "nowhere.keras does not exist"),
        (["predict", data, "a.png"], "digits.npz"),
        (["info", tmp_path / "nowhere.keras"], "nowhere.keras does not exist"),
        (["info", data.parent], "not a run folder"),
    ):
        result = call(*arguments)
        assert (result.code, result.out) == (1, "")
        assert message in result.err
        assert result.err.startswith("Error: ") or "\nError: " in result.err


def test_a_bug_is_told_without_a_traceback(call, finished, monkeypatch):
    monkeypatch.setattr("lightcnn.runs.compare", lambda runs: 1 / 0)
    result = call("compare", finished.folder)
    assert result.code == 1
    assert "Error: ZeroDivisionError" in result.err
    assert "--debug" in result.err


def test_debug_shows_the_traceback():
    without = lightcnn("compare", "/no/such/run")
    assert (without.returncode, without.stdout) == (1, "")
    assert "Traceback" not in without.stderr
    with_debug = lightcnn("compare", "/no/such/run", "--debug")
    assert with_debug.returncode == 1
    assert "Traceback" in with_debug.stderr
    assert "RunError" in with_debug.stderr


def test_debug_does_not_change_the_exit_code():
    assert lightcnn("train", "mnst", "--debug").returncode == 2


def test_a_backend_that_keras_chose_by_itself_is_one(call, model, pictures, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")  # Keras was imported before lightcnn
    result = call("predict", model, pictures)
    assert (result.code, result.err) == (0, "")


def test_a_reader_that_goes_away_is_no_error_message(tmp_path):
    command = f"{sys.executable} -m lightcnn info 2> {tmp_path}/err | true"
    subprocess.run(["bash", "-c", command], check=True, timeout=60)
    assert (tmp_path / "err").read_text() == ""


# ------------------------------------------------------------------------------------------------------------ train


def test_training_writes_a_run_and_keeps_stdout_clean(data, tmp_path):
    result = lightcnn("train", "arrays", "--data-dir", data, *SMALL, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
    (folder,) = (tmp_path / "runs" / "arrays").iterdir()
    assert result.stderr.splitlines()[0] == str(folder), "the path comes first, in full"
    assert "epoch 1/1  loss " in result.stderr
    run = Run.open(folder)
    assert run.report.exists()
    assert run.environment["command"] == f"lightcnn train arrays --data-dir {data} {' '.join(SMALL)}"


def test_quiet_is_silent_and_seeds_are_compared(data, tmp_path):
    arguments = ["--data-dir", data, "--run-dir", tmp_path / "runs", "--seeds", "1,2,3", "--quiet", *SMALL]
    result = lightcnn("train", "arrays", *arguments)
    assert result.returncode == 0
    folders = [str(tmp_path / "runs" / f"seed-{seed}") for seed in (1, 2, 3)]
    assert result.stderr.splitlines() == folders  # where the runs are, and no progress
    head, row = result.stdout.splitlines()
    assert head.startswith("configuration  seeds  validation accuracy, %")
    assert row.split()[:2] == ["arrays", "3"]
    assert row.count("±") == 4
    runs = [Run.open(tmp_path / "runs" / f"seed-{seed}") for seed in (1, 2, 3)]
    assert [run.recipe.seed for run in runs] == [1, 2, 3]
    mean = 100 * np.mean([run.metrics["test"]["accuracy"] for run in runs])
    assert f"{mean:.2f} ± " in row


def test_the_seed_and_settings_reach_the_recipe(call, data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("lightcnn.training.train", lambda recipe, folder, *args, **kw: seen.append((recipe, args, kw)))
    arguments = ("--data-dir", data, "--run-dir", tmp_path, "--seed", 7, "--set", "flip=yes", "--validation-only")
    assert call("train", "arrays", *arguments).code == 0
    ((recipe, (data_dir,), options),) = seen
    assert recipe == get_recipe("arrays", seed=7, flip=True)
    assert data_dir == data
    assert options["validation_only"] and not options["resume"] and not options["overwrite"]


def test_an_interrupted_training_says_how_to_go_on(call, tmp_path, monkeypatch):
    def interrupted(recipe, folder, *args, **kwargs):
        begin(folder, recipe, overwrite=True).write_environment(environment_of(started=now()))
        raise KeyboardInterrupt

    monkeypatch.setattr("lightcnn.training.train", interrupted)
    result = call("train", "mnist", "--run-dir", tmp_path / "run", "--overwrite")
    assert result.code == 130
    assert f"Go on with: lightcnn train mnist --run-dir {tmp_path / 'run'} --resume\n" in result.err


def test_seeds_that_are_finished_are_not_called_nothing(call, finished, tmp_path, monkeypatch):
    def second_interrupted(recipe, *args, **kwargs):
        if recipe.seed == 2:
            raise KeyboardInterrupt
        return finished

    monkeypatch.setattr("lightcnn.training.train", second_interrupted)
    result = call("train", "mnist", "--run-dir", tmp_path / "run", "--seeds", "1,2")
    assert (result.code, "--seeds 1,2 --run-dir" in result.err, "--resume" in result.err) == (130, True, True)


def test_a_recording_that_keeps_one_seed_from_being_tested_does_not_end_the_others(call, tmp_path, monkeypatch):
    def first_untested(recipe, folder, *args, **kwargs):
        run = begin(folder, recipe, overwrite=True)
        run.write_environment(environment_of(started=now()))
        split = {"accuracy": 0.5, "loss": 1.0}
        run.write_metrics({"train_seconds": 1.0, "parameters": 9, "validation": split})
        if recipe.seed == 1:
            raise BadFilesError([(Path("a.wav"), "truncated")], "Mend it.")
        return run

    monkeypatch.setattr("lightcnn.training.train", first_untested)
    result = call("train", "mnist", "--run-dir", tmp_path / "run", "--seeds", "1,2")
    assert result.code == 1
    assert "a.wav: truncated" in result.err
    assert "mnist          2      50.00 ± 0.00" in result.out


def test_a_bad_file_before_the_training_ends_all_seeds(call, tmp_path, monkeypatch):
    seen = []

    def refused(recipe, *args, **kwargs):
        seen.append(recipe.seed)
        raise BadFilesError([(Path("a.png"), "damaged")], "Mend it.")

    monkeypatch.setattr("lightcnn.training.train", refused)
    assert call("train", "mnist", "--run-dir", tmp_path / "run", "--seeds", "1,2").code == 1
    assert seen == [1]


def test_of_several_seeds_the_begun_go_on_and_the_others_start(call, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "lightcnn.training.train", lambda recipe, folder, *args, resume, **kwargs: seen.update({folder: resume})
    )
    monkeypatch.setattr("lightcnn.runs.compare", lambda runs: [])
    begin(tmp_path / "seed-1", get_recipe("mnist", seed=1))
    assert call("train", "mnist", "--run-dir", tmp_path, "--seeds", "1,2", "--resume").code == 0
    assert seen == {tmp_path / "seed-1": True, tmp_path / "seed-2": False}


def test_no_seed_is_trained_when_the_folder_of_a_later_one_is_in_use(call, tmp_path, monkeypatch):
    monkeypatch.setattr("lightcnn.training.train", lambda *args, **kwargs: pytest.fail("a training was begun"))
    begin(tmp_path / "seed-2", get_recipe("mnist", seed=2))
    result = call("train", "mnist", "--run-dir", tmp_path, "--seeds", "1,2")
    assert result.code == 1
    assert "seed-2" in result.err


def test_an_interruption_before_the_first_step_promises_nothing(call, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    begin(tmp_path / "run", get_recipe("mnist")).write_environment(environment_of())
    monkeypatch.setattr("lightcnn.training.train", interrupted)
    result = call("train", "mnist", "--run-dir", tmp_path / "run", "--overwrite")
    assert (result.code, result.err) == (130, "Interrupted. Nothing was begun.\n")


@pytest.mark.parametrize("flag", ["--overwrite", "--resume", None])
def test_a_folder_in_use(call, finished, data, tmp_path, flag):
    shutil.copytree(finished.folder, tmp_path / "run")
    own = [text for key in ("epochs=2", "batch_norm_momentum=0.5") for text in ("--set", key)]
    flags = [flag] if flag else []
    arguments = ("--data-dir", data, "--run-dir", tmp_path / "run", *SMALL, *own, *flags)
    result = call("train", "arrays", *arguments, "--quiet")
    assert result.code == (0 if flag else 1)
    assert ("is not empty. Pass --resume" in result.err) == (flag is None)
    assert len(Run.open(tmp_path / "run").history) == 2


def test_resuming_with_another_recipe_names_the_change(call, finished, data):
    result = call("train", "arrays", "--data-dir", data, "--run-dir", finished.folder, *SMALL, "--resume")
    assert result.code == 1
    assert "epochs was 2, now 1" in result.err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_130_and_the_run_goes_on(data, tmp_path, ending):
    arguments = ["train", "arrays", "--data-dir", data, "--run-dir", tmp_path / "run", *SMALL, "--set", "epochs=60"]
    command = [sys.executable, "-m", "lightcnn", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (tmp_path / "run" / "history.csv").exists():
            time.sleep(0.02)
        process.send_signal(ending)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert f"--run-dir {tmp_path / 'run'} --resume" in err
    run = Run.open(tmp_path / "run")
    done = len(run.history)
    assert 1 <= done < 60
    assert (run.checkpoint / "state.json").exists()
    # An epoch more would take long with 60 of them: that it goes on as if never stopped is in test_training.py.
    assert not list(run.folder.rglob("*.tmp"))


def test_seeds_that_never_began_leave_no_folder(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("train", "arrays", "--data-dir", "missing.npz", "--seeds", "1,2")
    assert result.code == 1
    assert not list((tmp_path / "runs" / "arrays").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ending_from_outside_is_taken_once_and_only_where_it_would_end(number):
    before = signal.getsignal(number)
    try:
        signal.signal(number, signal.SIG_DFL)
        with pytest.raises(KeyboardInterrupt), group._ending_as_by_ctrl_c():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)  # a second one does not end the tidying up
                tidied = True
        assert tidied
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # as nohup does with SIGHUP
        with group._ending_as_by_ctrl_c():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_commands_can_be_called_from_other_threads(finished, capsys):
    codes = []

    def run():
        with pytest.raises(SystemExit) as ended:
            group.main(["info", str(finished.folder)])
        codes.append(ended.value.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_folder_of_pictures_with_a_bad_file(call, tmp_path):
    generator = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 128)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(low, low + 128, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index}.png")
    bad = tmp_path / "data" / "dark" / "broken.png"
    bad.write_text("no picture")
    arguments = ("train", "images", "--data-dir", tmp_path / "data", *SMALL, "--set", "image_size=16")
    refused = call(*arguments, "--run-dir", tmp_path / "refused")
    assert refused.code == 1
    assert f"1 file could not be read:\n  {bad}: not a PNG" in refused.err
    assert "--skip-bad-files" in refused.err

    result = call(*arguments, "--run-dir", tmp_path / "run", "--skip-bad-files")
    assert (result.code, result.out) == (0, "")
    assert f"Skipped {bad}: not a PNG" in result.err
    run = Run.open(tmp_path / "run")
    assert run.environment["data"]["labels"] == ["dark", "light"]
    assert [skipped["file"] for skipped in run.environment["data"]["skipped"]] == [str(bad)]
    assert sum(run.environment["data"]["sizes"].values()) == 24

    predicted = call("predict", run.folder, tmp_path / "data" / "light" / "0.png", "--format", "json", "--quiet")
    assert json.loads(predicted.out)[0]["label"] in ("dark", "light")


# ------------------------------------------------------------------------------------------------ evaluate, compare


def test_evaluate_prints_figures_and_writes_the_report(call, finished):
    result = call("evaluate", finished.folder)
    assert result.code == 0
    rows = dict(line.rsplit(maxsplit=1) for line in result.out.splitlines()[1:])
    assert rows["accuracy"] == f"{finished.metrics['test']['accuracy']:.2%}"
    assert rows["loss"] == f"{finished.metrics['test']['loss']:.4f}"
    assert rows["images"] == "100"
    assert f"Report: {finished.report}" in result.err


def test_evaluate_another_split_quietly(call, finished, data):
    result = call("evaluate", finished.folder, "--split", "validation", "--data-dir", data, "--quiet")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("validation")


def test_compare_prints_a_row_a_configuration(call, tmp_path):
    folders = []
    for seed, dropout, accuracy in ((1, 0.5, 0.5), (2, 0.5, 0.7), (1, 0.3, 0.9)):
        run = begin(tmp_path / f"{seed}-{dropout}", get_recipe("mnist", seed=seed, dropout=dropout))
        split = {"accuracy": accuracy, "loss": 1.0}
        run.write_metrics({"train_seconds": 60.0, "parameters": 7, "validation": split, "test": split})
        run.write_environment(environment_of("MNIST"))
        folders.append(run.folder)
    result = call("compare", *folders)
    assert (result.code, result.err) == (0, "")
    head, first, second = result.out.splitlines()
    assert " ".join(first.split()) == "mnist dropout=0.5 2 60.00 ± 14.14 60.00 ± 14.14 1.0000 ± 0.0000 60 ± 0"
    assert " ".join(second.split()) == "mnist dropout=0.3 1 90.00 90.00 1.0000 60"
    for word in ("seeds", "validation accuracy", "test loss"):
        column = head.index(word)
        assert first[column - 1] == second[column - 1] == " "
        assert first[column] != " " != second[column]


# ---------------------------------------------------------------------------------------------------------- predict


def test_predict_prints_only_json(model, pictures):
    files = [pictures / "1.png", pictures / "0.png", pictures / "1.png"]
    result = lightcnn("predict", model, *files, "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    rows = json.loads(result.stdout)
    assert [row["file"] for row in rows] == [str(path) for path in files]
    for row in rows:
        assert set(row) == {"file", "label", "probability", "top"}
        assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
        assert [set(entry) for entry in row["top"]] == [{"label", "probability"}] * 3


def test_predict_as_csv(call, model, pictures):
    result = call("predict", model, pictures, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [row["file"] for row in rows] == [str(pictures / f"{index}.png") for index in range(3)]
    assert list(rows[0]) == ["file", "label", "probability"]
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)


def test_predict_as_a_table_whose_columns_stand(call, model, pictures):
    result = call("predict", model, pictures)
    assert result.code == 0
    head, *rows = result.out.splitlines()
    assert len(rows) == 3
    for name in ("label", "probability", "next"):
        column = head.index(name)
        assert all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)


def test_predict_from_a_list(call, model, pictures, tmp_path, monkeypatch):
    listed = [pictures / "2.png", pictures / "0.png", pictures / "2.png"]
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in listed) + "\n")
    result = call("predict", model, pictures / "1.png", "--files-from", tmp_path / "list.txt", "--format", "json")
    assert [row["file"] for row in json.loads(result.out)] == [str(pictures / "1.png"), *map(str, listed)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{listed[0]}\n".encode())))
    result = call("predict", model, "--files-from", "-", "--format", "json")
    assert [row["file"] for row in json.loads(result.out)] == [str(listed[0])]


def test_a_list_may_have_a_byte_order_mark_and_names_that_are_no_text(call, model, pictures, tmp_path, monkeypatch):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(pictures / "1.png", odd)
    listed = b"\xef\xbb\xbf" + os.fsencode(pictures / "0.png") + b"\n" + odd + b"\n"
    (tmp_path / "list.txt").write_bytes(listed)
    for source in (tmp_path / "list.txt", "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
        result = call("predict", model, "--files-from", source, "--format", "csv")
        assert result.code == 0, result.err
        assert len(result.out.splitlines()) == 3


def test_names_with_ends_of_lines_stay_whole(call, model, pictures, tmp_path):
    odd = [shutil.copy(pictures / "1.png", tmp_path / f"a{end}b.png") for end in ("\r", "\u2028", "\x85")]
    found = json.loads(call("predict", model, *odd, "--format", "json").out)
    assert [row["file"] for row in found] == list(map(str, odd))
    call("predict", model, *odd, "--format", "csv", "--output", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["file"] for row in csv.DictReader(file)] == list(map(str, odd))


def test_a_name_that_is_too_long_is_one_file_that_cannot_be_read(call, model, pictures, tmp_path):
    (tmp_path / "list.txt").write_text(f"{'x' * 300}\n{pictures / '0.png'}\n")
    result = call("predict", model, "--files-from", tmp_path / "list.txt", "--format", "json")
    assert result.code == 1
    assert [row["file"] for row in json.loads(result.out)] == [str(pictures / "0.png")]
    assert "1 of 2 files could not be read" in result.err


@pytest.mark.parametrize("name", ["./0.png", "../{folder}/0.png", "0.png"])
def test_a_file_is_called_as_given(call, model, pictures, monkeypatch, tmp_path, name):
    monkeypatch.chdir(pictures)
    name = name.format(folder=pictures.name)
    assert json.loads(call("predict", model, name, "--format", "json").out)[0]["file"] == name
    (tmp_path / "list.txt").write_text(name)
    result = call("predict", model, "--files-from", tmp_path / "list.txt", "--format", "json")
    assert json.loads(result.out)[0]["file"] == name


def test_one_bad_file_is_named_and_the_others_done(call, model, pictures, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    files = [pictures / "0.png", tmp_path / "bad.png", tmp_path / "nowhere.png", pictures / "1.png"]
    result = call("predict", model, *files, "--format", "json", "--quiet")
    assert result.code == 1
    assert [row["file"] for row in json.loads(result.out)] == [str(files[0]), str(files[3])]
    assert f"{files[1]}: not a PNG" in result.err
    assert f"{files[2]}: no such file" in result.err
    assert "2 of 4 files could not be read." in result.err


def test_nothing_but_bad_files_is_an_empty_array(call, model, tmp_path):
    result = call("predict", model, tmp_path / "nowhere.png", "--format", "json")
    assert (result.code, json.loads(result.out)) == (1, [])


def test_conversions_are_said_unless_quiet(call, model, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    said = call("predict", model, tmp_path / "red.png")
    assert "Converted 1 file: 40x30 colour -> 28x28 grey" in said.err
    assert "Converted" not in said.out
    quiet = call("predict", model, tmp_path / "red.png", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out == said.out


def test_output_is_looked_at_where_it_goes(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    link = tmp_path / "here" / "out.csv"
    link.symlink_to(tmp_path / "there" / "out.csv")
    # /dev is closed to most, and /dev/stdout leads elsewhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "here")
    assert OUTPUT_FILE.convert(str(link), None, None) == link
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "there")
    with pytest.raises(click.BadParameter, match="there is no folder, or not yours"):
        OUTPUT_FILE.convert(str(link), None, None)


def test_output_is_written_whole_or_not_at_all(call, model, pictures, tmp_path, monkeypatch):
    printed = call("predict", model, pictures, "--format", "csv").out
    output = tmp_path / "new" / "scores.csv"
    result = call("predict", model, pictures, "--format", "csv", "--output", output)
    assert (result.code, result.out) == (0, "")
    assert output.read_text() == printed

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightcnn.files.os.fsync", full)
    result = call("predict", model, pictures / "0.png", "--output", output)
    assert result.code == 1
    assert f"{output} could not be written: No space left on device" in result.err
    assert output.read_text() == printed
    assert list(output.parent.iterdir()) == [output]


def test_a_run_folder_predicts_too(call, finished, pictures):
    result = call("predict", finished.folder, pictures, "--format", "json")
    assert result.code == 0
    assert {len(row["top"]) for row in json.loads(result.out)} == {5}


# ------------------------------------------------------------------------------------------------------------ score


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "scores.txt"
    path.write_text("a A07 spoof -3.5\nb A08 spoof 0.5\nc - bonafide 2.5\nd - bonafide 0.25\n")
    return path


def test_score_prints_only_json(scores):
    result = lightcnn("score", scores, "--format", "json")
    assert result.returncode == 0
    figures = json.loads(result.stdout)
    assert list(figures) == [
        "eer",
        "min_tdcf_legacy",
        "min_tdcf",
        "min_dcf",
        "act_dcf",
        "cllr",
        "min_cllr",
        "per_attack",
    ]
    assert figures["eer"] == 0.5
    assert figures["per_attack"] == {"A07": 0, "A08": 0.75}
    assert figures["min_tdcf"] is None
    assert f"{scores}: columns taken for utterance, attack, key, score." in result.stderr
    assert result.stderr.count("null") == 1


def test_score_as_a_table_with_all_files(call, scores, tmp_path):
    key, asv = tmp_path / "key.txt", tmp_path / "asv.txt"
    key.write_text(
        "".join(
            f"p {utterance} - A09 {label}\n"
            for utterance, label in zip("abcd", ["spoof"] * 2 + ["human"] * 2, strict=True)
        )
    )
    asv.write_text("- target 3\n- target 4\n- nontarget 0\n- nontarget 3.5\nA09 spoof 5\n")
    result = call("score", scores, "--key", key, "--asv-scores", asv, "--quiet")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[1].split()[:3] == ["EER,", "%", "50.0000"]
    assert any(line.startswith("EER of A09, %") for line in lines)
    assert "needs ASV scores" not in result.out
    assert len({line.index(line.split("  ")[-1].strip()) for line in lines[1:]}) == 1  # the columns stand


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a spoof nan\nb bonafide 1\n", "a (line 1: nan)"),
        ("a spoof 1\nb bonafide 1\na spoof 2\n", "more than once: a"),
        ("a spoof 1\nb spoof 2\n", "no bona fide trial"),
        ("a cat 1\nb spoof 2\n", "line 1: unknown label 'cat'"),
        ("a 1\n", "Name the key of these trials (--key)"),
        ("", "is empty"),
    ],
)
def test_scores_that_cannot_be_used_are_1(call, scores, text, message):
    scores.write_text(text)
    result = call("score", scores, "--format", "json")
    assert (result.code, result.out) == (1, "")
    assert message in result.err


def test_an_inverted_sign_is_said_even_quietly(call, scores):
    scores.write_text("a spoof 1\nb bonafide 0\n")
    result = call("score", scores, "--quiet")
    assert result.code == 0
    assert result.err.count("\n") == 1
    assert "looks inverted" in result.err


# ------------------------------------------------------------------------------------------------------------- info


def test_info_lists_recipes_and_the_machine(call):
    result = call("info")
    assert (result.code, result.err) == (0, "")
    for name in recipe_names():
        assert f"\n{name}: " in f"\n{result.out}"
    for word in ("source", "cost", "result", "backend", "processor", "versions", f"keras {keras.__version__}"):
        assert word in result.out


@pytest.mark.parametrize("name", recipe_names())
def test_info_of_a_recipe(call, name):
    result = call("info", name)
    assert result.code == 0
    rows = [line.split(maxsplit=1) for line in result.out.splitlines()]
    assert ["epochs", str(get_recipe(name).epochs)] in rows
    assert {"source", "cost", "result", "command"} <= {row[0] for row in rows if row}


def test_info_of_a_run(call, finished):
    result = call("info", finished.folder)
    assert result.code == 0
    for text in ("164,938", "2 of 2", "digits.npz", f"{finished.metrics['test']['accuracy']:.2%}", "lightcnn train"):
        assert text in result.out


def test_info_of_a_run_that_is_not_finished(call, tmp_path):
    begin(tmp_path / "run", get_recipe("mnist"))
    result = call("info", tmp_path / "run")
    assert result.code == 0
    assert f"0 of {get_recipe('mnist').epochs}" in result.out
    assert "not finished; go on with --resume" in result.out


def test_info_of_a_damaged_run_does_not_call_it_unfinished(call, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text("{")
    result = call("info", tmp_path / "run")
    assert result.code == 1
    assert "environment.json is damaged" in result.err
    assert "--resume" not in result.err


def test_info_of_a_model(call, model, finished):
    result = call("info", model)
    assert result.code == 0
    for text in ("cat, a longer name, bird", "28 x 28 x 1 uint8", "conv_9", "MFMConv2D", "14 x 14 x 32"):
        assert text in result.out
    assert "164,938" in call("info", finished.best_model).out


def test_info_of_a_model_with_labels_alone(call, tmp_path):
    save_model(lcnn((16, 16, 1), 2), tmp_path / "model.keras", {"labels": ["a", "b"]})
    result = call("info", tmp_path / "model.keras")
    assert result.code == 0
    assert "a, b" in result.out


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_info_of_an_artifact_says_what_it_is_and_what_it_was_made_of(call, finished, tmp_path, form):
    pytest.importorskip(form if form == "openvino" else "onnxruntime")
    output = tmp_path / ("model.onnx" if form == "onnx" else "model")
    path = export(finished.best_model, output, form).path
    result = call("info", path)
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines()[1:])
    assert rows["input"] == "28 x 28 x 1 uint8"
    assert rows["format"] == form
    assert rows["precision"] == "float32"
    assert rows["labels"] == ", ".join(finished.environment["data"]["labels"])
    size = sum(one.stat().st_size for one in path.parent.glob("model*") if one.is_file())
    assert rows["size"] == f"{size / 1e6:.2f} MB"
    assert file_digest(finished.best_model) in result.out


def test_info_of_an_artifact_that_is_none(call, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    result = call("info", tmp_path / "model.onnx")
    assert result.code == 1
    assert "not an ONNX model, or a truncated one" in result.err


def test_ctrl_c_in_any_command_is_130(call, finished, monkeypatch):
    def interrupted(runs):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightcnn.runs.compare", interrupted)
    assert call("compare", finished.folder).code == 130


WHAT_A_FILE_CAN_BE_CALLED = r"""
import click
from lightcnn.cli.group import main
@main.command()
def say():
    click.echo("\u5199\u771f caf\udce9.png")
main(["say"])
"""


@pytest.mark.parametrize("encoding", ["cp1252:strict", "ascii", "utf-8"])
def test_every_name_of_a_file_can_be_printed(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", WHAT_A_FILE_CAN_BE_CALLED]
    printed = subprocess.run(command, capture_output=True, env=environment, check=True).stdout
    assert printed.decode("utf-8").split() == ["写真", r"caf\udce9.png"]
