"""PyTorch's files read without their code, and NII's real countermeasure against PyTorch on real speech."""

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import wave
import zipfile

import keras
import numpy as np
import pytest
from conftest import real_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightcnn.errors import ModelFileError
from lightcnn.importing import convert, read_torch_checkpoint
from lightcnn.models import load_model, read_metadata

NII = "golden/nii_lfcc_lcnn_lstm_sig.pt"


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def small_checkpoints():
    """The same weights in the new format (True) and the old one, saved once: PyTorch writes addresses into the old."""
    torch = pytest.importorskip("torch")
    weights = collections.OrderedDict(w=torch.arange(6.0).reshape(2, 3), b=torch.zeros(2))
    saved = {}
    for new_format in (True, False):
        file = io.BytesIO()
        torch.save(weights, file, _use_new_zipfile_serialization=new_format)
        saved[new_format] = file.getvalue()
    return saved


@pytest.fixture(scope="session")
def checkpoint():
    return real_file(NII)


@pytest.fixture(scope="session")
def speech():
    with wave.open(str(real_file("golden/D18_1000001.wav"))) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("float32") / 32768


@pytest.fixture(scope="session")
def converted(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "nii.keras"
    return path, convert(checkpoint, path)


def nii_in_pytorch(torch, weights, samples):
    """States NII's LFCC-LCNN-LSTM with a sigmoid in PyTorch from its description, with PyTorch's own layers."""
    nn = torch.nn

    class MaxFeatureMap(nn.Module):
        def forward(self, x):
            return torch.maximum(*x.chunk(2, dim=1))

    # (channels in, channels before MFM, kernel), "pool" and the channels of a batch norm, as in the paper's table.
    table = [(1, 64, 5), "pool", (32, 64, 1), 32, (32, 96, 3), "pool", 48, (48, 96, 1), 48, (48, 128, 3), "pool"]
    table += [(64, 128, 1), 64, (64, 64, 3), 32, (32, 64, 1), 32, (32, 64, 3), "pool"]
    layers = []
    for row in table:
        if row == "pool":
            layers.append(nn.MaxPool2d(2))
        elif isinstance(row, int):
            layers.append(nn.BatchNorm2d(row, affine=False))
        else:
            layers += [nn.Conv2d(*row, padding=row[2] // 2), MaxFeatureMap()]
    trunk = nn.Sequential(*layers).eval()
    trunk.load_state_dict(part(weights, "m_transform.0."))
    lstms = [nn.LSTM(96, 48, bidirectional=True, batch_first=True) for _ in range(2)]
    for index, lstm in enumerate(lstms):
        lstm.load_state_dict(part(weights, f"m_before_pooling.0.{index}.l_blstm."))
    classifier = nn.Linear(96, 1)
    classifier.load_state_dict(part(weights, "m_output_act.0."))
    with torch.no_grad():
        x = trunk(lfcc_in_pytorch(torch, weights, samples)[:, None])
        x = x.permute(0, 2, 1, 3).flatten(2)
        y = lstms[1](lstms[0](x)[0])[0]
        return classifier((x + y).mean(1))[:, 0].numpy()


def lfcc_in_pytorch(torch, weights, samples):
    """States NII's LFCC with the filter bank and the DCT that the checkpoint has."""
    x = torch.cat([samples[:, :1], samples[:, 1:] - 0.97 * samples[:, :-1]], dim=1)
    window = torch.hamming_window(320).to(x.dtype)
    spectrum = torch.stft(x, 512, 160, 320, window, center=True, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square().transpose(1, 2)
    bank, transform = (weights[f"m_frontend.0.{name}"].to(x.dtype) for name in ("lfcc_fb", "l_dct.weight"))
    epsilon = torch.finfo(torch.float32).eps
    cepstra = torch.log10(power @ bank + epsilon) @ transform.T
    cepstra[..., 0] = torch.log10((power / 512).sum(-1) + epsilon)
    features = [cepstra]
    for _ in range(2):
        edges = torch.cat([features[-1][:, :1], features[-1], features[-1][:, -1:]], dim=1)
        features.append(edges[:, 2:] - edges[:, :-2])
    return torch.cat(features, dim=-1)


def part(weights, prefix):
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def scores_of(model, samples, lengths):
    return model.predict_on_batch([samples, np.array(lengths, "int32")])  # compiled: JAX is slow without


def test_the_real_checkpoint_reads_as_pytorch_reads_it(torch, checkpoint):
    expected = torch.load(checkpoint, map_location="cpu", weights_only=True)
    arrays = read_torch_checkpoint(checkpoint)
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].numpy().dtype
        np.testing.assert_array_equal(array, expected[name].numpy())


def test_the_converted_model_has_the_counts_and_says_what_it_is(converted, checkpoint):
    path, metadata = converted
    model = load_model(path)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 268_961
    assert [tensor.name for tensor in model.inputs] == ["samples", "lengths"]
    assert model.output_shape == (None,)
    assert read_metadata(path) == metadata
    assert metadata["task"] == "voice anti-spoofing"
    assert metadata["sampling_rate"] == 16000
    assert metadata["labels"] == ["spoof", "bonafide"]
    assert metadata["score"] == "higher = more bona fide"
    assert metadata["head"] == "sigmoid"
    assert metadata["checkpoint"]["file"] == checkpoint.name


def test_the_converted_model_gives_pytorchs_logits_on_real_speech(torch, converted, checkpoint, speech):
    model = load_model(converted[0])
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    lengths = [len(speech), 30_000, 16_001]
    expected = [nii_in_pytorch(torch, weights, torch.tensor(speech[None, :length]))[0] for length in lengths]
    alone = [scores_of(model, speech[None, :length], [length])[0] for length in lengths]
    assert np.std(expected) > 0.1  # the cuts differ, so agreeing is no accident
    print("largest difference of a logit:", np.abs(np.subtract(alone, expected)).max())
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-3)

    batch = np.stack([np.where(np.arange(len(speech)) < length, speech, 0.5) for length in lengths]).astype("float32")
    np.testing.assert_allclose(scores_of(model, batch, lengths), alone, rtol=0, atol=1e-4)


def test_the_converted_model_exposes_the_embedding(converted, speech):
    model = load_model(converted[0])
    embedder = keras.Model(model.inputs, model.get_layer("embedding").output)
    assert scores_of(embedder, speech[None], [len(speech)]).shape == (1, 96)


def test_a_new_process_loads_the_converted_model(converted):
    code = "import sys, lightcnn; print(lightcnn.load_model(sys.argv[1]).output_shape)"
    result = subprocess.run([sys.executable, "-c", code, converted[0]], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "(None,)", result.stderr


def test_tensors_of_every_kind_read_alike_in_both_formats(torch, tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = {
        "plain": base,
        "permuted": base.permute(2, 0, 1),
        "sliced": base[:, 1:, ::2],
        "shared": base[1],
        "number": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double() / 3,
        "bytes": base.to(torch.uint8),
        "flags": base > 5,
        "parameter": torch.nn.Parameter(base + 1),
    }
    for new_format in (True, False):
        path = tmp_path / f"{new_format}.pt"
        torch.save(tensors, path, _use_new_zipfile_serialization=new_format)
        arrays = read_torch_checkpoint(path)
        assert set(arrays) == set(tensors)
        for name, tensor in tensors.items():
            expected = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
            np.testing.assert_array_equal(arrays[name], expected.numpy(), err_msg=name)
            assert arrays[name].flags.owndata
            assert arrays[name].flags.writeable


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "state"])
def test_wrapped_weights_of_a_parallel_network_are_found(torch, tmp_path, wrapper, new_format):
    network = torch.nn.DataParallel(torch.nn.Linear(3, 2))
    path = tmp_path / "checkpoint.pth.tar"
    content = {"epoch": 7, "arch": "LightCNN", wrapper: network.state_dict(), "best": torch.tensor(0.5)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    arrays = read_torch_checkpoint(path)
    assert {name: array.shape for name, array in arrays.items()} == {"weight": (2, 3), "bias": (2,)}
    np.testing.assert_array_equal(arrays["weight"], network.module.weight.detach().numpy())


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(torch, tmp_path, new_format):
    torch.save(
        {"w": torch.zeros(2), "x": Evil(tmp_path / "evil")},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(ModelFileError, match=r"a\.pt is refused as a PyTorch checkpoint: it asks for posix.mkdir"):
        read_torch_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "evil").exists()


def checkpoint_with(path, numbers, size, stride, offset=0, count=None):
    """Writes a checkpoint by hand whose one tensor can lie about its storage."""

    # A pickle of protocol 0: `c` a global, `(...t` a tuple, `Q` a persistent identifier, `R` a call.
    count = len(numbers) if count is None else count
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI%d\ntQ" % count
    shape, steps = (b"(" + b"".join(b"I%d\n" % value for value in values) + b"t" for values in (size, stride))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I%d\n" % offset + shape + steps + b"I00\nNtR"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"(dS'w'\n" + tensor + b"s.")
        archive.writestr("archive/data/0", struct.pack(f"<{len(numbers)}f", *numbers))
    return path


def test_a_checkpoint_by_hand_is_read(tmp_path):
    path = checkpoint_with(tmp_path / "a.pt", [1, 2, 3, 4, 5, 6], (2, 2), (1, 2), offset=1)
    np.testing.assert_array_equal(read_torch_checkpoint(path)["w"], [[2, 4], [3, 5]])


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (7,), "stride": (1,)},
        {"size": (2, 3), "stride": (4, 1)},
        {"size": (6,), "stride": (1,), "offset": 1},
        {"size": (6,), "stride": (-1,)},
        {"size": (-1, -6), "stride": (1, 1)},
        {"size": (1000000, 1000000), "stride": (0, 0)},
        {"size": (2, 3), "stride": (1,)},
        {"size": (6,), "stride": (1,), "count": 7},
        {"size": (6,), "stride": (1,), "count": -1},
    ],
    ids=str,
)
def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path, lie):
    path = checkpoint_with(tmp_path / "a.pt", [1, 2, 3, 4, 5, 6], **lie)
    with pytest.raises(ModelFileError, match=r"a\.pt is (refused as a|no) PyTorch checkpoint"):
        read_torch_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PyTorch checkpoint, or a damaged one"),
        (b"some text", "PyTorch checkpoint"),
        (pickle.dumps([1, 2]) * 5, "it does not begin as PyTorch's files do"),
    ],
    ids=["empty", "text", "other pickles"],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        read_torch_checkpoint(tmp_path / "a.pt")


def test_missing_files_folders_and_other_zips_are_refused(tmp_path):
    for path in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(ModelFileError, match="does not exist or is not a file"):
            read_torch_checkpoint(path)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/other.pkl", b"")
    with pytest.raises(ModelFileError, match=r"a zip file without one data\.pkl"):
        read_torch_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("thing", [[1, 2], {"epoch": 3}, {"state_dict": {}}, 5])
def test_checkpoints_without_weights_are_refused(torch, tmp_path, thing):
    torch.save(thing, tmp_path / "a.pt")
    with pytest.raises(ModelFileError, match=r"it holds no (dictionary of|named) weights"):
        read_torch_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("new_format", [True, False])
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_an_error_of_ours_or_leaves_the_weights(small_checkpoints, tmp_path, new_format, data):
    content = bytearray(small_checkpoints[new_format])
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    (tmp_path / "a.pt").write_bytes(content)
    try:
        arrays = read_torch_checkpoint(tmp_path / "a.pt")
    except ModelFileError as error:
        assert "a.pt" in str(error)
    else:
        assert all(array.size <= 100 for array in arrays.values())


def changed(checkpoint, tmp_path, change):
    """Saves the real checkpoint again after a change to its weights."""
    torch = pytest.importorskip("torch")
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    change(weights, torch)
    torch.save(weights, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, t: w.pop("m_transform.0.6.bias"), r"it has no m_transform\.0\.6\.bias"),
        (lambda w, t: w.update({"m_output_act.0.weight": t.zeros(64, 96)}), r"for 'head' do not fit.*\(96, 64\)"),
        (
            lambda w, t: w.update({"m_frontend.0.lfcc_fb": t.zeros(256, 20)}),
            r"Received: .*lfcc_fb of shape \(256, 20\)",
        ),
        (lambda w, t: w["m_transform.0.6.bias"].fill_(float("nan")), r"6\.bias is no array of finite numbers"),
        (
            lambda w, t: w.update({"m_transform.0.0.weight": t.zeros(64, 25)}),
            r"Expected 4 axes of .*Received: .*\(64, 25\)",
        ),
        (
            lambda w, t: w.update({"m_before_pooling.0.0.l_blstm.bias_hh_l0": t.zeros(1)}),
            r"biases of .* \(l0\) are of unlike lengths",
        ),
        (
            lambda w, t: w.pop("m_before_pooling.0.0.l_blstm.weight_ih_l0"),
            r"of a network that is not known\. Known: NII",
        ),
    ],
    ids=["incomplete", "another head", "other features", "nan", "axes", "biases", "unknown"],
)
def test_other_networks_are_refused_and_nothing_is_written(checkpoint, tmp_path, change, message):
    with pytest.raises(ModelFileError, match=message):
        convert(changed(checkpoint, tmp_path, change), tmp_path / "out.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["changed.pt"]


def test_the_output_must_be_a_keras_file(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"A model file ends in \.keras\. Received: output=.*out\.h5"):
        convert(checkpoint, tmp_path / "out.h5")


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras itself imports PyTorch here")
def test_no_pytorch_is_needed(checkpoint):
    code = (
        "import sys; from lightcnn.importing import read_torch_checkpoint\n"
        "print(len(read_torch_checkpoint(sys.argv[1])), 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, checkpoint], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == f"{len(read_torch_checkpoint(checkpoint))} False", result.stderr
