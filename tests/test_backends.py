"""Which backend runs, and that TensorFlow, JAX and PyTorch pass the same tests."""

import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from lightcnn import backends
from lightcnn.datasets.published import keras_cache
from lightcnn.errors import LightCNNError, MissingDependencyError
from lightcnn.files import cache_folder

TESTS = Path(__file__).parent
ON_EVERY_BACKEND = [
    "test_layers.py", "test_schedules.py", "test_models.py", "test_saving.py", "test_article.py",
    "test_masking.py", "test_pooling.py", "test_heads.py", "test_losses.py", "test_speech_models.py",
    "test_frontends.py", "test_spectra.py", "test_filter_banks.py", "test_cepstra.py", "test_constant_q.py",
    "test_optimizers.py", "test_normalization.py", "test_fitting.py",
]  # fmt: skip

# Pretends that only some backends are installed, which `import lightcnn` asks `find_spec` about.
CHOOSE = """
import importlib.util, os, sys
installed = sys.argv[1].split(",")
importlib.util.find_spec = lambda name: object() if name in installed else None
import lightcnn
print(os.environ.get("KERAS_BACKEND"))
loaded = {"keras", "numpy", "tensorflow", "jax", "torch"} & set(sys.modules)
assert not loaded, loaded
"""


def run_python(code, *arguments, **environment):
    """Runs code in a new Python; an environment variable that is None is not set there."""
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def chosen_backend(installed, keras_home, keras_backend=None):
    result = run_python(CHOOSE, ",".join(installed), KERAS_HOME=str(keras_home), KERAS_BACKEND=keras_backend)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (["tensorflow", "jax", "torch"], "tensorflow"),
        (["jax", "torch"], "jax"),
        (["torch"], "torch"),
        ([], "None"),
    ],
)
def test_the_installed_backend_is_chosen_without_importing_it(tmp_path, installed, expected):
    assert chosen_backend(installed, tmp_path) == expected


@pytest.mark.parametrize("keras_backend", ["torch", "openvino"])
def test_the_users_environment_variable_comes_first(tmp_path, keras_backend):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert chosen_backend(["tensorflow", "jax"], tmp_path, keras_backend) == keras_backend


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"backend": "torch"}', "torch"),
        ('{"backend": "jax"}', "tensorflow"),  # not installed
        ('{"backend": "nonsense"}', "tensorflow"),
        ('{"backend": null}', "tensorflow"),
        ('{"floatx": "float32"}', "tensorflow"),
        ("[]", "tensorflow"),
        ("{", "tensorflow"),
    ],
)
def test_the_backend_of_keras_json_comes_second_if_it_is_installed(tmp_path, content, expected):
    (tmp_path / "keras.json").write_text(content)
    assert chosen_backend(["tensorflow", "torch"], tmp_path) == expected


def test_keras_imported_first_keeps_its_backend(tmp_path):
    backend = keras.backend.backend()
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
    code = """
import keras, lightcnn
from lightcnn.backends import describe_environment, import_backend
import_backend()
print(describe_environment()["backend"])
"""
    result = run_python(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND=None)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == backend


@pytest.mark.parametrize(
    ("quota", "processors"),
    [
        ("max 100000", 4),
        ("150000 100000", 2),
        ("100000 100000", 1),
        ("20000 100000", 1),
        ("900000 100000", 4),
        (None, 4),
    ],
)
def test_a_process_has_the_processors_of_its_container(monkeypatch, tmp_path, quota, processors):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 2, 5, 7}, raising=False)
    monkeypatch.setattr(backends, "_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        backends._QUOTA.write_text(f"{quota}\n")
    assert backends.num_processors() == processors


def test_a_program_without_a_console_imports_keras():
    code = "import sys; sys.stderr = None; from lightcnn.backends import import_backend; import_backend(); print(5)"
    assert run_python(code, KERAS_BACKEND=keras.backend.backend()).stdout == "5\n"


def test_a_user_needs_no_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(os.path, "expanduser", str)  # as it does then
    for name in ("KERAS_HOME", "LIGHTCNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert backends._configured_backend() is None
    assert (keras_cache(), cache_folder()) == (Path("~/.keras/datasets"), Path("~/.cache/lightcnn"))


def test_import_backend_imports_keras_and_says_nothing():
    code = "import sys; from lightcnn.backends import import_backend; import_backend(); assert 'keras' in sys.modules"
    result = run_python(code, KERAS_BACKEND=keras.backend.backend(), TF_CPP_MIN_LOG_LEVEL="0")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_import_backend_shows_why_it_failed():
    code = """
import os, sys, types
os.environ["KERAS_BACKEND"] = "tensorflow"
from lightcnn import backends
backends.find_spec = lambda name: object()
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            os.write(2, b"note before the failure\\n")
            raise ImportError("libsomething is missing")
sys.meta_path.insert(0, Broken())
try:
    backends.import_backend()
finally:
    os.write(2, b"note after the failure\\n")
"""
    result = run_python(code)
    assert result.returncode == 1
    notes = [line for line in result.stderr.splitlines() if "note" in line or "missing" in line]
    assert notes == ["note before the failure", "note after the failure", "ImportError: libsomething is missing"]


@pytest.mark.parametrize("keras_backend", [None, "tensorflow", "jax", "torch"])
def test_without_a_backend_the_error_says_what_to_install(monkeypatch, keras_backend):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if keras_backend:
        monkeypatch.setenv("KERAS_BACKEND", keras_backend)
    with pytest.raises(MissingDependencyError, match=r"pip install 'lightcnn\[tensorflow\]'.*Received: KERAS_BACKEND="):
        backends.import_backend()
    assert issubclass(MissingDependencyError, LightCNNError)
    assert issubclass(MissingDependencyError, ImportError)


@pytest.mark.parametrize("flags", ["fpu avx2 avx512_bf16 sse", "fpu amx_bf16", "fpu avx2 avx512f", ""])
def test_fast_bfloat16_needs_the_instructions_and_tensorflow(monkeypatch, flags):
    monkeypatch.setattr(backends, "_processor_lines", lambda: ["model name\t: X bf16", f"flags\t\t: {flags}"])
    expected = {"tensorflow": "_bf16" in flags, "jax": False, "torch": False}
    for backend, fast in expected.items():
        monkeypatch.setenv("KERAS_BACKEND", backend)
        assert backends.has_fast_bfloat16() is fast


def test_the_environment_names_versions_and_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    environment = json.loads(json.dumps(backends.describe_environment()))
    assert environment["backend"] == keras.backend.backend()
    assert environment["python"] == sys.version.split()[0]
    assert environment["versions"]["keras"] == keras.__version__
    assert environment["versions"]["lightcnn"] == importlib.metadata.version("lightcnn")
    assert 1 <= environment["threads"] <= environment["cores"]
    assert environment["fast_bfloat16"] is backends.has_fast_bfloat16()


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["cpu family\t: 25", "model\t\t: 17", "model name\t: X (R): 9"], "X (R): 9 (family 25, model 17)"),
        (["model name\t: X"], "X"),
        (["CPU part\t: 0xd0c"], platform.processor()),
        ([], platform.processor()),
    ],
)
def test_the_environment_tells_generations_of_processors_apart(monkeypatch, lines, name):
    monkeypatch.setattr(backends, "_processor_lines", lambda: lines)
    assert backends.describe_environment()["processor"] == name


def test_a_seed_repeats_python_numpy_and_keras():
    draws = []
    for seed in (3, 3, 4):
        backends.set_seed(seed)
        weights = keras.layers.Dense(4)
        weights.build((None, 4))
        draws.append([random.random(), np.random.random(), *weights.get_weights()[0].ravel()])  # noqa: S311
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (np.array(draws[0]) != np.array(draws[2])).all()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_other_backends_pass_the_same_tests(backend):
    if not find_spec(backend):
        message = f"{backend} is not installed: pip install 'lightcnn[{backend}]'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    # JAX compiles every operation for every shape: here that takes longer than what optimization saves.
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *ON_EVERY_BACKEND]
    result = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0, result.stdout[-6000:]
