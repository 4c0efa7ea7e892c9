"""Which Keras backend runs, on which processor, and how to make it repeat itself."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcnn.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "choose_backend",
    "describe_environment",
    "has_fast_bfloat16",
    "import_backend",
    "keras_home",
    "num_processors",
    "random_stream",
    "set_seed",
    "shape_text",
]

BACKENDS = ("tensorflow", "jax", "torch")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processors, of a period
_IMPORTING = threading.Lock()


def choose_backend() -> None:
    """Sets `KERAS_BACKEND` to the backend that is installed, unless the user has set it.

    Keras falls back to TensorFlow even where only JAX or PyTorch is installed, and then cannot be imported. The backend
    of the user's `keras.json` comes first if it is installed, then TensorFlow, JAX, PyTorch. Nothing is imported here.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on itself are not the user's business
    if os.environ.get("KERAS_BACKEND"):
        return
    if "keras" in sys.modules:
        os.environ["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
        return
    for backend in (_configured_backend(), *BACKENDS):
        if backend in BACKENDS and find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            return


def _configured_backend() -> str | None:
    try:
        return str(json.loads((keras_home() / "keras.json").read_text(encoding="utf-8"))["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no such file, or one that Keras itself will complain about


def keras_home() -> Path:
    """Returns the folder of the user's that Keras keeps its settings and downloads in."""
    return Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"))  # noqa: PTH111  without a home, too


def import_backend() -> None:
    """Imports Keras and its backend for a command-line user: without the start-up notes, with help if it is missing.

    TensorFlow writes notes about the processor and missing GPUs to file descriptor 2, past every Python setting. They
    are held back here, and shown only if the import fails.

    Raises:
        MissingDependencyError: If Keras has no backend to run on.
    """
    choose_backend()  # again, for those who imported Keras before lightcnn
    backend = os.environ.get("KERAS_BACKEND")
    if backend is None or (backend in BACKENDS and not find_spec(backend)):
        raise MissingDependencyError(
            "Keras needs a backend, and none is installed. Install one: pip install 'lightcnn[tensorflow]' "
            f"(the default), 'lightcnn[jax]' or 'lightcnn[torch]'. Received: KERAS_BACKEND={backend!r}"
        )
    with _IMPORTING:
        if "keras" not in sys.modules:
            _import_quietly()


def _import_quietly() -> None:
    if sys.stderr is None:  # a program without a console
        import keras

        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held_back:
        stderr = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            import keras

            keras.ops.zeros(1)  # the first operation looks for GPUs
            logging.getLogger("tensorflow").setLevel(logging.ERROR)  # advice on retracing, meant for developers
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def set_seed(seed: int) -> None:
    """Seeds Python, NumPy and Keras, and makes TensorFlow's operations deterministic.

    On TensorFlow, two runs are equal only with deterministic operations. Where it was measured, they cost less than
    the 10 % by which timings varied (`benchmarks/results.csv`).
    """
    import keras

    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


_PURPOSES = ("validation", "test", "order", "augmentation", "calibration")


def random_stream(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Returns NumPy's random generator for one use at one place; no two of them share numbers.

    Args:
        seed: The run's seed.
        purpose: `"validation"`, `"test"` or `"calibration"` (who and what is held out), `"order"` or `"augmentation"`.
        *position: Where: the epoch, the batch.

    Returns:
        A new generator, always the same for the same arguments.
    """
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose), *position)))


def num_processors() -> int:
    """Returns how many processors this process may use: those that it is tied to, or its container's share of them."""
    tied = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = map(int, _QUOTA.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        return tied  # no container, no limit ("max"), or not Linux
    return min(tied, -(-microseconds // period))


def has_fast_bfloat16() -> bool:
    """Tells whether training gains from bfloat16: TensorFlow on a processor with bfloat16 instructions."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return False
    return not _processor_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def _processor_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # not Linux


def _processor_flags() -> set[str]:
    return {flag for line in _processor_lines() if line.startswith("flags") for flag in line.partition(":")[2].split()}


def _processor_name() -> str:
    """Returns the processor's name, with its family and model: virtual machines call several generations the same."""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in _processor_lines())}
    if "model name" not in facts:
        return platform.processor()
    numbers = [f"{key.split()[-1]} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{facts['model name']} ({', '.join(numbers)})" if numbers else facts["model name"]


def describe_environment() -> dict[str, Any]:
    """Returns versions, backend and processor: what another person needs to repeat a measurement."""
    runtimes = ("onnxruntime", "ai-edge-litert", "openvino")
    packages = ("lightcnn", "keras", *BACKENDS, *runtimes, "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": num_processors(),
        "fast_bfloat16": has_fast_bfloat16(),
        "backend": os.environ.get("KERAS_BACKEND"),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def shape_text(tensor: Any) -> str:
    """Returns the shape of a model's tensor, of Keras or of an artifact, without the batch, for people.

    Example:
    >>> shape_text(keras.Input((28, 28, 1)))
    '28 x 28 x 1'
    """
    return " x ".join("any" if size is None else str(size) for size in tensor.shape[1:]) or "a number"
