"""Real data for tests, and a place to keep them away from the user's own caches."""

import os
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

SHARED = Path(os.environ.get("LIGHTCNN_TEST_DATA", Path(__file__).parents[2] / "shared"))

# How long an example takes depends on what else the machine does.
settings.register_profile("lightcnn", settings.default, deadline=None)
settings.load_profile("lightcnn")


def real_file(name: str) -> Path:
    """Returns a file of real data; without it the test fails in CI and is skipped elsewhere."""
    path = SHARED / name
    if not path.exists():
        message = f"{path} is missing; set LIGHTCNN_TEST_DATA to the folder of the real data"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with MNIST and the JPEG copy of CIFAR-10."""
    return real_file("data/mnist.npz").parent


@pytest.fixture(scope="session")
def mnist(mnist_folder):
    """MNIST's four arrays; a test that changes pictures makes its own."""
    with np.load(mnist_folder / "mnist.npz") as arrays:
        return dict(arrays)


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory, monkeypatch):
    """No test reads or writes the caches of the person who runs it."""
    monkeypatch.setenv("LIGHTCNN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs `lightcnn ...` in this process; gives its exit code and what it wrote."""
    import keras

    from lightcnn import cli

    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())  # as in a process where lightcnn came before Keras

    def run(*arguments):
        texts = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["lightcnn", *texts])
        with pytest.raises(SystemExit) as ended:
            cli.main(texts)
        written = capsys.readouterr()
        assert "Traceback" not in written.err
        return SimpleNamespace(code=ended.value.code or 0, out=written.out, err=written.err)

    return run


def without_compiling(monkeypatch):
    """Runs small networks step by step: their compilation takes longer than all of their steps."""
    import keras

    always = property(lambda model: True, lambda model, value: None)
    monkeypatch.setattr(keras.Model, "run_eagerly", always, raising=False)


def begin(folder, recipe, *, resume=False, overwrite=False):
    """Claims a folder and starts a run in it, as `train` does around loading the data."""
    from lightcnn.runs import Run

    with Run.claim(folder, recipe, resume=resume, overwrite=overwrite) as run:
        if not resume:
            run.start(recipe)
    return run


def now():
    """Returns the time as `environment.json` has it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def environment_of(name="mine", **values):
    """Returns a made-up `environment.json`."""
    data = {
        "data_dir": None,
        "digest": "0" * 64,
        "labels": ["0", "1"],
        "name": name,
        "sizes": {"train": 100, "validation": 10, "test": 10},
        "skipped": [],
        "source": "/data",
    }
    return {
        "backend": "tensorflow",
        "command": "lightcnn train arrays --set epochs=3",
        "data": {**data, **values.pop("data", {})},
        "layers": [],
        "notes": [],
        "preprocessing": [1.0, 0.0],
        "processor": "a processor",
        "python": "3.11.7",
        "started": "2026-11-24T12:00:00+00:00",
        "threads": 2,
        "versions": {"keras": "3.12.0"},
        **values,
    }
