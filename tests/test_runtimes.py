"""An artifact is opened by its runtime alone, and whatever is wrong with it is said clearly."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import keras
import numpy as np
import onnx
import pytest

from lightcnn.errors import DataError, MissingDependencyError, ModelFileError
from lightcnn.exporting import export
from lightcnn.models import lcnn, load_model, save_model
from lightcnn.runtimes import Artifact, TensorInfo, checking, has_runtime, open_artifact

METADATA = {"format": 1, "task": "image classification", "labels": ["a", "猫", "caf\udce9"]}
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT's converter needs it")
FORMS = [
    "onnx",
    pytest.param("litert", marks=needs_tensorflow),
    "openvino",
    "keras",
]
_NEEDS = {"litert": "ai_edge_litert", "openvino": "openvino"}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(lcnn((16, 18, 1), 3, scale=1 / 64, offset=-1.0), path, METADATA)
    return path


@pytest.fixture(scope="module")
def artifacts(model_file, tmp_path_factory):
    """Makes an artifact of a form when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("artifacts"), {"keras": model_file}

    def artifact(form):
        if form in _NEEDS:
            pytest.importorskip(_NEEDS[form])
        if form not in made:
            name = {"onnx": "model.onnx", "litert": "model.tflite", "openvino": "openvino"}[form]
            made[form] = export(model_file, folder / name, form).path
        return made[form]

    return artifact


def pictures(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 18, 1)).astype("float32")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_keras_gives(artifacts, model_file, form):
    artifact = open_artifact(artifacts(form))
    expected = keras.ops.convert_to_numpy(load_model(model_file)(pictures()))
    for count in (3, 1, 2):
        np.testing.assert_allclose(artifact(pictures()[:count]), expected[:count], atol=1e-5)
    assert artifact(pictures(0)).shape == (0, 3)
    assert artifact(pictures().astype("uint8")).dtype == np.float32  # pixels as a decoder gives them
    assert artifact.metadata["labels"] == METADATA["labels"]
    assert artifact.inputs[0].shape == (None, 16, 18, 1)


@pytest.mark.parametrize("form", FORMS)
def test_several_threads_at_once_do_not_disturb_each_other(artifacts, form):
    artifact = open_artifact(artifacts(form), streams=2)
    batches = [(pictures(1 + index % 5) * (index % 7 + 1) / 8,) for index in range(40)]
    expected = [artifact(*batch) for batch in batches]
    received = list(artifact.map(batches))
    assert len(received) == 40
    for one, other in zip(expected, received, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_threads_that_end_take_nothing_with_them(artifacts, form):
    artifact, received = open_artifact(artifacts(form)), []
    for _ in range(30):  # as a server that has a thread for every request
        thread = threading.Thread(target=lambda: received.append(artifact(pictures())))
        thread.start()
        thread.join()
    for one in received:
        np.testing.assert_allclose(one, artifact(pictures()), atol=1e-6)
    assert len(received) == 30


@pytest.mark.parametrize(
    "arrays", [(np.zeros((16, 18, 1)),), (np.zeros((1, 18, 16, 1)),), (), (np.zeros((1, 16, 18, 1)), np.zeros(1))]
)
@pytest.mark.parametrize("form", FORMS)
def test_a_shape_that_does_not_fit_is_named(artifacts, form, arrays):
    with pytest.raises(DataError, match=r"\(any, 16, 18, 1\)"):
        open_artifact(artifacts(form))(*arrays)


PROCESSORS_OF_THREADS = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[2])})
import numpy as np
from lightcnn.runtimes import open_artifact
pictures = np.zeros((3, 16, 18, 1), np.float32)
for streams in (1, 2):
    artifact = open_artifact(sys.argv[1], streams)
    list(artifact.map([(pictures,)] * 4))
    statuses = [open(f"/proc/self/task/{thread}/status").read() for thread in os.listdir("/proc/self/task")]
    print(*{status.partition("Cpus_allowed_list:")[2].split()[0] for status in statuses})
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tie threads to processors")
@pytest.mark.parametrize("form", [form for form in FORMS if form != "keras"])
def test_a_runtime_keeps_to_the_processors_that_it_was_given(artifacts, form):
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        pytest.skip("a thread has no other processor to go to")
    for processor in (processors[0], processors[-1]):
        command = [sys.executable, "-c", PROCESSORS_OF_THREADS, str(artifacts(form)), str(processor)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert printed.split() == [str(processor)] * 2


def made_up(run, streams):
    info = TensorInfo("x", (None, 1), "float32")
    return Artifact("made up", {}, (info,), info, "0" * 64, streams, run)


def test_threads_are_kept_from_call_to_call():
    seen = set()

    def run(arrays):
        seen.add(threading.get_ident())
        time.sleep(0.002)
        return arrays[0]

    artifact = made_up(run, streams=2)
    for _ in range(5):
        assert len(list(artifact.map([(np.zeros((1, 1)),)] * 6))) == 6
    assert len(seen) == 2


def test_map_keeps_the_order_and_takes_no_more_than_it_needs():
    running, most, taken, lock = [0], [0], [], threading.Lock()

    def run(arrays):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002 if arrays[0][0, 0] % 3 else 0.01)  # the earlier ones end later
        with lock:
            running[0] -= 1
        return arrays[0]

    def endless():
        for number in range(10**9):
            taken.append(number)
            yield (np.full((1, 1), number, np.float32),)

    results = made_up(run, 3).map(endless())
    assert [float(next(results)[0, 0]) for _ in range(20)] == list(range(20))
    assert len(taken) <= 20 + 2 * 3
    assert most[0] == 3
    results.close()


def test_map_raises_what_goes_wrong_in_a_thread():
    def run(arrays):
        raise RuntimeError("broken")

    with pytest.raises(DataError, match="broken"):
        list(made_up(run, 2).map([(np.zeros((1, 1)),)]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(artifacts, tmp_path, form, share):
    path = artifacts(form)
    content = path.read_bytes()
    copy = tmp_path / path.name
    copy.write_bytes(content[: int(share * len(content))])
    if form == "openvino":
        copy.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes())
    with pytest.raises(ModelFileError, match=copy.name):
        open_artifact(copy)


def test_openvinos_weights_must_be_there(artifacts, tmp_path):
    path = artifacts("openvino")
    (tmp_path / "model.xml").write_bytes(path.read_bytes())
    with pytest.raises(ModelFileError, match=r"model\.xml"):
        open_artifact(tmp_path / "model.xml")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".xml", ".keras"])
def test_another_file_of_that_name_is_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"<html>not found</html>" * 20)
    if not has_runtime(suffix):
        pytest.skip("not installed")
    with pytest.raises(ModelFileError, match="model"):
        open_artifact(path)


@pytest.mark.parametrize("name", ["model.pb", "model", "missing.onnx"])
def test_a_file_that_is_missing_or_of_no_known_kind(tmp_path, name):
    if "missing" not in name:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelFileError, match=name):
        open_artifact(tmp_path / name)


def with_metadata(source, target, text):
    """Copies an ONNX file with other metadata."""
    model = onnx.load(source)
    del model.metadata_props[:]
    if text is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = "lightcnn", text
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no metadata"),
        ("{", "damaged metadata"),
        ("[]", "damaged metadata"),
        (json.dumps(METADATA), "damaged metadata"),
        (json.dumps({**METADATA, "artifact": {"format": 2, "lightcnn": "9.0"}}), r"lightcnn 9\.0.*Received: 2"),
        (
            json.dumps({**METADATA, "artifact": {"format": 1, "lightcnn": "0.1.0"}}),
            "it lacks form, quantize, source_digest",
        ),
        ('{"artifact": {"format": 1e999, "lightcnn": ""}}', "damaged metadata"),
        ('{"artifact":' * 100_000, "damaged metadata"),
    ],
)
def test_metadata_that_are_missing_damaged_or_of_another_version(artifacts, tmp_path, text, message):
    with pytest.raises(ModelFileError, match=message):
        open_artifact(with_metadata(artifacts("onnx"), tmp_path / "model.onnx", text))


@needs_tensorflow
def test_a_litert_file_without_metadata(artifacts, tmp_path):
    with zipfile.ZipFile(artifacts("litert")) as archive:
        start = archive.infolist()[0].header_offset
    (tmp_path / "model.tflite").write_bytes(artifacts("litert").read_bytes()[:start])
    with pytest.raises(ModelFileError, match=r"no metadata.*truncated"):
        open_artifact(tmp_path / "model.tflite")


@needs_tensorflow
def test_a_small_litert_file_cannot_claim_gigabytes_of_metadata(tmp_path):
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lightcnn.json", b" " * (1 << 25))
    with pytest.raises(ModelFileError, match="metadata of more than"):
        open_artifact(path)


def test_openvinos_two_files_belong_together(artifacts, tmp_path):
    folder = shutil.copytree(artifacts("openvino").parent, tmp_path / "model")
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelFileError, match=r"model\.bin is damaged, or belongs to another model"):
        open_artifact(folder / "model.xml")
    (folder / "model.bin").unlink()
    with pytest.raises(ModelFileError, match=r"needs .*model\.bin, which does not exist"):
        open_artifact(folder / "model.xml")


def test_a_truncated_openvino_file_says_what_is_wrong_with_it(artifacts, tmp_path):
    folder = shutil.copytree(artifacts("openvino").parent, tmp_path / "model")
    content = (folder / "model.xml").read_bytes()
    (folder / "model.xml").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=r"truncated one: (?!Exception)"):
        open_artifact(folder / "model.xml")


def test_tensorflow_alone_is_no_runtime_of_litert(monkeypatch):
    monkeypatch.setattr(checking, "find_spec", lambda name: None if name == "ai_edge_litert" else object())
    assert not has_runtime(".tflite")
    assert has_runtime(".xml")


def test_an_onnx_model_of_other_types_is_opened(tmp_path):
    from onnx import TensorProto, helper, save

    given, made = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 2]) for name in ("x", "y"))
    model = helper.make_model(
        helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", [given], [made]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    said = {
        "form": "onnx",
        "format": 1,
        "lightcnn": "0.1.0",
        "quantize": None,
        "source_digest": "",
        "weights_digest": "",
    }
    model.metadata_props.add(key="lightcnn", value=json.dumps({"artifact": said}))
    save(model, tmp_path / "model.onnx")
    artifact = open_artifact(tmp_path / "model.onnx")
    assert artifact.inputs[0].dtype == "float64"
    np.testing.assert_array_equal(artifact(np.ones((3, 2))), -np.ones((3, 2)))


@pytest.mark.parametrize(("suffix", "extra"), [(".tflite", "litert"), (".xml", "openvino"), (".onnx", "lightcnn")])
def test_a_missing_runtime_names_its_extra(tmp_path, monkeypatch, suffix, extra):
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    (tmp_path / f"model{suffix}").write_bytes(b"")
    with pytest.raises(MissingDependencyError, match=extra):
        open_artifact(tmp_path / f"model{suffix}")


def test_streams_must_be_positive(artifacts):
    with pytest.raises(ValueError, match="streams=0"):
        open_artifact(artifacts("onnx"), streams=0)


@pytest.mark.parametrize("form", ["onnx", pytest.param("litert", marks=needs_tensorflow)])
def test_an_artifact_runs_where_keras_is_not_installed(artifacts, tmp_path, form):
    expected = open_artifact(artifacts("keras"))(pictures())
    np.save(tmp_path / "pictures.npy", pictures())
    script = f"""
import sys
for name in ("keras", "tensorflow", "jax", "torch", "onnx"):
    sys.modules[name] = None  # importing it is an ImportError
import numpy as np
from lightcnn.runtimes import open_artifact
artifact = open_artifact({str(artifacts(form))!r})
np.save({str(tmp_path / "scores.npy")!r}, artifact(np.load({str(tmp_path / "pictures.npy")!r})))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, atol=1e-4 * expected.max())
