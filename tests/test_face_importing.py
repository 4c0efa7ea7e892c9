"""Released Light CNNs converted: PyTorch's embeddings, every format that weights come in, and everything refused."""

import json
import struct
import zipfile

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightcnn.errors import ModelFileError
from lightcnn.importing import convert, face, read_npz_checkpoint, read_safetensors_checkpoint, read_torch_checkpoint
from lightcnn.models import load_model, read_metadata

CLASSES = 7
VARIANTS = ["light_cnn_4", "light_cnn_9", "light_cnn_29", "light_cnn_29v2", "light_cnn_v4"]
TITLES = dict(
    zip(VARIANTS, ["Light CNN-4", "Light CNN-9", "Light CNN-29", "Light CNN-29v2", "Light CNN v4"], strict=True)
)
# Of the released files: tensors and numbers, and the classes that they are for.
RELEASED = {
    "light_cnn_9": (22, 25_803_653, 79_077),
    "light_cnn_29": (62, 32_896_069, 79_077),
    "light_cnn_29v2": (61, 30_959_200, 80_013),
    "light_cnn_v4": (52, 10_345_600, None),
}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def released_shapes(variant, classes=CLASSES):
    """The names and shapes in the released files: convolutions (out, in, height, width), dense layers (out, in)."""
    if variant == "light_cnn_4":
        layers = {"0": (96, 1, 9, 9), "2": (192, 48, 5, 5), "4": (256, 96, 5, 5), "6": (384, 128, 4, 4)}
        layers |= {"9.1": (512, 4800), "12.1": (classes, 256)}
    elif variant == "light_cnn_9":
        layers = {"features.0.filter": (96, 1, 5, 5)}
        groups = ((2, 96, 48, 192), (4, 192, 96, 384), (6, 384, 192, 256), (7, 256, 128, 256))
        for place, narrow, channels, wide in groups:
            layers[f"features.{place}.conv_a.filter"] = (narrow, channels, 1, 1)
            layers[f"features.{place}.conv.filter"] = (wide, channels, 3, 3)
        layers |= {"fc1.filter": (512, 8192), "fc2": (classes, 256)}
    else:
        layers = {"conv1.filter": (96, 3, 3, 3) if variant == "light_cnn_v4" else (96, 1, 5, 5)}
        stages = ((1, 48, 192), (2, 96, 384), (3, 192, 256), (4, 128, 256))
        for stage, channels, wide in stages:
            for block in range(stage):
                for half in (1, 2):
                    layers[f"block{stage}.{block}.conv{half}.filter"] = (2 * channels, channels, 3, 3)
            if variant == "light_cnn_v4":
                layers[f"conv{stage + 1}.filter"] = (wide, channels, 3, 3)
            else:
                layers[f"group{stage}.conv_a.filter"] = (2 * channels, channels, 1, 1)
                layers[f"group{stage}.conv.filter"] = (wide, channels, 3, 3)
        layers |= {"fc.filter": (512, 8192)} if variant == "light_cnn_29" else {"fc": (256, 8192)}
        if variant != "light_cnn_v4":
            layers["fc2"] = (classes, 256)
    shapes = {}
    for name, shape in layers.items():
        shapes[f"{name}.weight"] = shape
        if (variant, name) != ("light_cnn_29v2", "fc2"):
            shapes[f"{name}.bias"] = shape[:1]
    return shapes


def random_checkpoint(variant):
    """Random weights; the residual blocks of some networks make their values large, which harms nobody."""
    generator = np.random.default_rng(0)
    return {
        name: generator.normal(scale=1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.25, size=shape).astype(
            "float32"
        )
        for name, shape in released_shapes(variant).items()
    }


def pytorch_network(torch, variant, arrays, pixels):
    """States each network in PyTorch: pixels `(batch, channels, 128, 128)` in [0, 1] to embedding and logits."""
    functional, w = torch.nn.functional, {name: torch.from_numpy(array) for name, array in arrays.items()}

    def mfm(x):
        return torch.maximum(*x.chunk(2, dim=1))

    def conv(x, key, padding="same"):
        return mfm(functional.conv2d(x, w[f"{key}.weight"], w[f"{key}.bias"], padding=padding))

    def group(x, key):
        return conv(conv(x, f"{key}.conv_a.filter"), f"{key}.conv.filter")

    def blocks(x, key, count):
        for index in range(count):
            x = conv(conv(x, f"{key}.{index}.conv1.filter"), f"{key}.{index}.conv2.filter") + x
        return x

    def maximum(x):
        return functional.max_pool2d(x, 2, 2, ceil_mode=True)

    def both(x):
        return functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2)

    def linear(x, key):
        return functional.linear(x, w[f"{key}.weight"], w.get(f"{key}.bias"))

    def four(x):
        for key in "0246":
            x = maximum(conv(x, key, "valid"))
        x = mfm(linear(x.flatten(1), "9.1"))
        return x, linear(x, "12.1")

    def nine(x):
        x = maximum(conv(x, "features.0.filter"))
        x = maximum(group(x, "features.2"))
        x = maximum(group(x, "features.4"))
        x = maximum(group(group(x, "features.6"), "features.7"))
        x = mfm(linear(x.flatten(1), "fc1.filter"))
        return x, linear(x, "fc2")

    def body(x, pool):
        x = pool(conv(x, "conv1.filter"))
        x = pool(group(blocks(x, "block1", 1), "group1"))
        x = pool(group(blocks(x, "block2", 2), "group2"))
        x = group(blocks(x, "block3", 3), "group3")
        return pool(group(blocks(x, "block4", 4), "group4")).flatten(1)

    def twenty_nine(x):
        x = mfm(linear(body(x, maximum), "fc.filter"))
        return x, linear(x, "fc2")

    def twenty_nine_v2(x):
        x = linear(body(x, both), "fc")
        return x, linear(x, "fc2")

    def four_in_colour(x):
        x = both(conv(x, "conv1.filter"))
        x = both(conv(blocks(x, "block1", 1), "conv2.filter"))
        x = both(conv(blocks(x, "block2", 2), "conv3.filter"))
        x = conv(blocks(x, "block3", 3), "conv4.filter")
        x = both(conv(blocks(x, "block4", 4), "conv5.filter"))
        return linear(x.flatten(1), "fc"), None

    networks = (four, nine, twenty_nine, twenty_nine_v2, four_in_colour)
    with torch.no_grad():
        embedding, logits = networks[VARIANTS.index(variant)](pixels)
    return embedding.numpy(), None if logits is None else logits.numpy()


def faces(variant):
    """Two pictures, `(2, 128, 128, channels)` from 0 to 255: noise by the pixel, and noise in squares of 32 pixels."""
    channels = 3 if variant == "light_cnn_v4" else 1
    generator = np.random.default_rng(1)
    fine = generator.integers(0, 256, (128, 128, channels))
    coarse = np.kron(generator.integers(0, 256, (4, 4, channels)), np.ones((32, 32, 1)))
    return np.stack([fine, coarse]).astype("float32")


def save(torch, arrays, path, *, prefix="module.", new_format=True):
    """Saves arrays as the authors' training does."""
    weights = {prefix + name: torch.from_numpy(array) for name, array in arrays.items()}
    content = {"epoch": 80, "arch": "LightCNN", "state_dict": weights, "prec1": torch.tensor(98.5)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    return path


@pytest.fixture(scope="module", params=VARIANTS)
def converted(request, torch, tmp_path_factory):
    """A variant, its random weights, the file that they became, and what `convert` said."""
    arrays, folder = random_checkpoint(request.param), tmp_path_factory.mktemp("faces")
    checkpoint = save(torch, arrays, folder / f"{request.param}.pth.tar")
    facts = convert(checkpoint, folder / "face.keras")
    return request.param, arrays, folder / "face.keras", facts


@pytest.mark.parametrize("variant", RELEASED)
def test_the_made_up_checkpoints_have_the_released_counts(variant):
    tensors, numbers, classes = RELEASED[variant]
    shapes = released_shapes(variant, classes)
    assert (len(shapes), sum(int(np.prod(shape)) for shape in shapes.values())) == (tensors, numbers)


def test_the_converted_network_gives_pytorchs_embedding_and_logits(torch, converted):
    variant, arrays, path, facts = converted
    pixels = faces(variant)
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) / 255))
    embedding, logits = pytorch_network(torch, variant, arrays, planes)
    assert np.abs(embedding[0] - embedding[1]).max() > 0.05 * np.abs(embedding).max()  # agreeing is no accident
    model = load_model(path)
    expected = {"embedding": embedding, **({} if logits is None else {"logits": logits})}
    ours = keras.Model(model.input, {name: model.get_layer(name).output for name in expected})(pixels, training=False)
    for name, theirs in expected.items():
        difference = np.abs(keras.ops.convert_to_numpy(ours[name]) - theirs).max() / np.abs(theirs).max()
        print(f"{variant}, {name}: largest relative difference {difference:.1e}")
        assert difference < 1e-4
    assert facts["parity"] < 1e-4


def test_the_converted_file_says_what_it_takes(converted):
    variant, _, path, facts = converted
    assert read_metadata(path) == facts
    assert facts["task"] == "face representation"
    assert facts["network"] == variant
    assert facts["embedding"] == {"layer": "embedding", "size": 256}
    assert facts["classes"] == (None if variant == "light_cnn_v4" else CLASSES)
    channels = 3 if variant == "light_cnn_v4" else 1
    assert facts["input"] == {
        "shape": [128, 128, channels],
        "dtype": "uint8",
        "range": [0, 255],
        "colour": "BGR" if channels == 3 else "grey",
    }
    assert facts["alignment"] == {"size": 128, "eye_mouth_distance": 48, "eye_row": 40}
    assert TITLES[variant] in facts["source"]
    assert facts["checkpoint"]["file"] == f"{variant}.pth.tar"
    model = load_model(path)
    assert model.input.shape[1:] == (128, 128, channels)
    assert model.output.shape == (None, facts["classes"] or 256)
    assert model.layers[1].name == "preprocessing"


@pytest.fixture(scope="module")
def four():
    """The smallest of them, which most tests of files use."""
    return random_checkpoint("light_cnn_4")


@pytest.fixture(scope="module")
def four_embedding(torch, four):
    planes = torch.from_numpy(np.ascontiguousarray(faces("light_cnn_4").transpose(0, 3, 1, 2) / 255))
    return pytorch_network(torch, "light_cnn_4", four, planes)[0]


def safetensors_bytes(arrays, *, metadata=True):
    """Writes the format by hand: length of the header, header, numbers."""
    codes = {"float64": "F64", "float32": "F32", "float16": "F16"}
    header, data = {"__metadata__": {"format": "pt"}} if metadata else {}, b""
    for name, array in arrays.items():
        place = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": codes[str(array.dtype)], "shape": list(array.shape), "data_offsets": place}
        data += array.tobytes()
    return with_header(header, data)


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write(form, arrays, path, torch):
    if form == "npz":
        np.savez(path, **arrays)
    elif form == "safetensors":
        path.write_bytes(safetensors_bytes(arrays))
    else:
        save(torch, arrays, path, prefix="", new_format=form == "zip")
    return path


@pytest.mark.parametrize(
    ("form", "suffix"), [("npz", ".npz"), ("safetensors", ".safetensors"), ("legacy", ".pth.tar"), ("zip", ".pth")]
)
def test_every_format_is_converted(torch, four, four_embedding, tmp_path, form, suffix):
    facts = convert(write(form, four, tmp_path / f"four{suffix}", torch), tmp_path / "out.keras", keep_classifier=False)
    assert facts["classes"] is None
    model = load_model(tmp_path / "out.keras")
    assert model.layers[-1].name == "embedding"
    assert model.count_params() == 4_098_048
    difference = np.abs(model.predict_on_batch(faces("light_cnn_4")) - four_embedding).max()
    assert difference < 1e-4 * np.abs(four_embedding).max()


def test_weights_of_half_precision_and_of_float64_are_converted(four, tmp_path):
    for dtype in ("float16", "float64"):
        np.savez(tmp_path / "four.npz", **{name: array.astype(dtype) for name, array in four.items()})
        assert convert(tmp_path / "four.npz", tmp_path / f"{dtype}.keras")["parity"] < 1e-4


def test_a_file_without_the_classifier_becomes_a_model_without(four, tmp_path):
    np.savez(tmp_path / "four.npz", **{name: array for name, array in four.items() if not name.startswith("12.1.")})
    assert convert(tmp_path / "four.npz", tmp_path / "out.keras")["classes"] is None
    assert load_model(tmp_path / "out.keras").output.shape == (None, 256)


def test_a_classifier_that_was_added_to_v4_is_kept():
    arrays = random_checkpoint("light_cnn_v4") | {
        "fc2.weight": np.full((3, 256), 0.5, "float32"),
        "fc2.bias": np.ones(3, "float32"),
    }
    model, facts = face.light_cnn(arrays)
    assert facts["classes"] == 3
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[1], np.ones(3))


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


BAD = {
    "missing": (
        "light_cnn_29",
        lambda w: without(w, "block2.1.conv2.filter.bias", "group3.conv_a.filter.weight"),
        r"is Light CNN-29 by.*of 62 weights\. Received: 60 weights; "
        r"missing: block2\.1\.conv2\.filter\.bias, group3\.conv_a\.filter\.weight\.",
    ),
    "unknown": (
        "light_cnn_9",
        lambda w: w | {"features.9.filter.weight": np.zeros(3, "float32"), "bn.bias": np.zeros(2, "float32")},
        r"is Light CNN-9 by.*Received: 24 weights; unknown: features\.9\.filter\.weight, bn\.bias\.",
    ),
    "another shape": (
        "light_cnn_v4",
        lambda w: w | {"conv1.filter.weight": np.zeros((96, 1, 3, 3), "float32"), "fc.bias": np.zeros(9, "float32")},
        r"is Light CNN v4 by.*of another shape: conv1\.filter\.weight \(96, 1, 3, 3\) instead of \(96, 3, 3, 3\), "
        r"fc\.bias \(9,\) instead of \(256,\)\.",
    ),
    "NaN and integers": (
        "light_cnn_29v2",
        lambda w: w | {"fc.bias": np.full(256, np.nan, "float32"), "conv1.filter.bias": np.zeros(96, "int64")},
        r"is Light CNN-29v2 by.*not finite floating-point numbers: conv1\.filter\.bias, fc\.bias\.",
    ),
    "all at once": (
        "light_cnn_4",
        lambda w: without(w, "0.bias") | {"x": np.zeros(1, "float32"), "2.bias": np.zeros((2, 96), "float32")},
        r"missing: 0\.bias; unknown: x; of another shape: 2\.bias \(2, 96\) instead of \(192,\)\.",
    ),
    "half a classifier": ("light_cnn_4", lambda w: without(w, "12.1.weight"), r"missing: 12\.1\.weight"),
    "classifier of another embedding": (
        "light_cnn_4",
        lambda w: w | {"12.1.weight": np.zeros((CLASSES, 128), "float32")},
        r"of another shape: 12\.1\.weight \(7, 128\) instead of \(classes, 256\)",
    ),
    "bias where none is": (
        "light_cnn_29v2",
        lambda w: w | {"fc2.bias": np.zeros(CLASSES, "float32")},
        r"unknown: fc2\.bias\.",
    ),
    "a name that tells": (
        "light_cnn_9",
        lambda w: without(w, "features.0.filter.weight", "features.0.filter.bias"),
        r"is Light CNN-9 by.*missing: features\.0\.filter\.weight, features\.0\.filter\.bias\.",
    ),
    "another network": (
        "light_cnn_9",
        lambda w: {"features.0.weight": np.zeros((64, 3, 3, 3), "float32"), "classifier.bias": np.zeros(9, "float32")},
        r"of a network that is not known\. Known: NII's.*, Wu et al\.'s Light CNN-4.*Received: 2 weights: features\.0",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_checkpoint_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, what):
    variant, change, message = BAD[what]
    zeros = {name: np.zeros(shape, "float32") for name, shape in released_shapes(variant).items()}
    np.savez(tmp_path / "bad.npz", **change(zeros))
    with pytest.raises(ModelFileError, match=message):
        convert(tmp_path / "bad.npz", tmp_path / "out.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def test_a_wrong_conversion_is_found_and_the_old_file_stays(four, tmp_path, monkeypatch):
    # The mistake of a published port: the dense kernel is transposed, and its rows stay in PyTorch's order.
    right = face._rearranged
    monkeypatch.setattr(face, "_rearranged", lambda value, shape, flattened: right(value, shape, None))
    np.savez(tmp_path / "four.npz", **four)
    (tmp_path / "out.keras").write_bytes(b"old")
    with pytest.raises(ModelFileError, match=r"Light CNN-4, does not give the checkpoint's outputs.*at most 1e-04"):
        convert(tmp_path / "four.npz", tmp_path / "out.keras")
    assert (tmp_path / "out.keras").read_bytes() == b"old"


def test_a_classifier_that_is_converted_wrongly_is_found(four, tmp_path, monkeypatch):
    right = face._rearranged
    wrong = lambda value, shape, flattened: right(value, shape, flattened) * (1.01 if shape[-1:] == (CLASSES,) else 1)  # noqa: E731
    monkeypatch.setattr(face, "_rearranged", wrong)
    np.savez(tmp_path / "four.npz", **four)
    with pytest.raises(ModelFileError, match="does not give the checkpoint's outputs"):
        convert(tmp_path / "four.npz", tmp_path / "out.keras")
    convert(tmp_path / "four.npz", tmp_path / "out.keras", keep_classifier=False)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_weights_whose_embedding_is_not_finite_are_refused(four, tmp_path):
    np.savez(tmp_path / "four.npz", **{name: array * np.float32(1e30) for name, array in four.items()})
    with pytest.raises(ModelFileError, match="does not give the checkpoint's outputs"):
        convert(tmp_path / "four.npz", tmp_path / "out.keras")
    assert not (tmp_path / "out.keras").exists()


def test_all_readers_give_the_same(torch, tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        "a.weight": generator.normal(size=(2, 3, 4)).astype("float32"),
        "half": generator.normal(size=5).astype("float16"),
        "double": generator.normal(size=(1, 2)),
        "number": np.array(7, "float32"),
        "empty": np.zeros((0, 3), "float32"),
    }
    read = [
        read_torch_checkpoint(write("zip", arrays, tmp_path / "a.pth", torch)),
        read_npz_checkpoint(write("npz", arrays, tmp_path / "a.npz", torch)),
        read_safetensors_checkpoint(write("safetensors", arrays, tmp_path / "a.safetensors", torch)),
    ]
    for weights in read:
        assert list(weights) == list(arrays)
        for name, array in arrays.items():
            assert weights[name].dtype == array.dtype
            assert weights[name].flags.writeable
            np.testing.assert_array_equal(weights[name], array, err_msg=name)


def test_the_package_safetensors_writes_what_is_read(torch, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = {"w": torch.randn(3, 4), "half": torch.randn(5).half(), "brain": torch.randn(2, 3).bfloat16()}
    safetensors.save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    weights = read_safetensors_checkpoint(tmp_path / "a.safetensors")
    assert set(weights) == set(tensors)
    for name, tensor in tensors.items():
        expected = tensor.float() if name == "brain" else tensor
        assert weights[name].dtype == expected.numpy().dtype
        np.testing.assert_array_equal(weights[name], expected.numpy())


def test_bfloat16_is_read_as_pytorch_reads_it(torch, tmp_path):
    numbers = torch.tensor([1.0, -2.5, 3.140625, 0.0])
    data = numbers.bfloat16().view(torch.int16).numpy().tobytes()
    header = {"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}
    (tmp_path / "a.safetensors").write_bytes(with_header(header, data))
    weights = read_safetensors_checkpoint(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(weights["w"], numbers.reshape(2, 2).numpy())
    assert weights["w"].dtype == np.float32


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_the_prefix_of_a_parallel_network_is_dropped(tmp_path, form):
    path = tmp_path / f"a.{form}"
    read = {"npz": read_npz_checkpoint, "safetensors": read_safetensors_checkpoint}[form]
    write(form, {"module.w": np.zeros(2, "float32"), "module.b": np.zeros(1, "float32")}, path, None)
    assert list(read(path)) == ["w", "b"]
    write(form, {"module.w": np.zeros(2, "float32"), "b": np.zeros(1, "float32")}, path, None)
    assert list(read(path)) == ["module.w", "b"]


def entry(dtype="F32", shape=(2,), place=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


EIGHT = b"\0" * 8
LIES = {
    "empty": (b"", "its header would have 0 bytes, the file has 0"),
    "short": (b"\1\0\0", "the file has 3"),
    "longer header than file": (struct.pack("<Q", 10) + b"{}", "its header would have 10 bytes, the file has 10"),
    "endless header": (struct.pack("<Q", 2**64 - 1) + b"{}", "its header would have 18446744073709551615 bytes"),
    "no JSON": (with_header(b"nonsense"), "Expecting value"),
    "no text": (with_header(b"\xff\xfe"), "codec can't decode"),
    "deep": (with_header(b"[" * 100_000), "recursion"),
    "list": (with_header([1]), "its header is no JSON object"),
    "number": (with_header({"w": 3}), "no dtype, shape and data_offsets for w"),
    "no place": (with_header({"w": {"dtype": "F32", "shape": [2]}}, EIGHT), "no dtype, shape and data_offsets for w"),
    "text as place": (with_header({"w": entry(place=("0", "8"))}, EIGHT), "no dtype, shape and data_offsets for w"),
    "complex numbers": (with_header({"w": entry("C64", (1,))}, EIGHT), "w is C64, expected F64, F32, F16, BF16"),
    "past the end": (with_header({"w": entry(shape=(4,), place=(0, 16))}, EIGHT), r"w of shape \[4\] at 0 to 16 does"),
    "backwards": (with_header({"w": entry(place=(8, 0))}, EIGHT), "at 8 to 0 does not lie in 8 bytes"),
    "before the beginning": (with_header({"w": entry(place=(-8, 0))}, EIGHT), "at -8 to 0 does not lie"),
    "negative shape": (with_header({"w": entry(shape=(-1, -2))}, EIGHT), r"w of shape \[-1, -2\]"),
    "fraction": (with_header({"w": entry(shape=(2.0,))}, EIGHT), r"w of shape \[2.0\]"),
    "too small": (with_header({"w": entry(shape=(3,))}, EIGHT), r"w of shape \[3\] and dtype F32 has 8 bytes"),
    "overlap": (
        with_header({"w": entry(), "v": entry(shape=(1,), place=(4, 8))}, EIGHT),
        "its tensors overlap or leave bytes between them",
    ),
    "hole": (with_header({"w": entry(shape=(1,), place=(4, 8))}, EIGHT), "leave bytes between them"),
    "rest": (with_header({"w": entry()}, EIGHT + b"\0"), "leave bytes between them"),
    "twice": (
        with_header(b'{"w":' + json.dumps(entry()).encode() + b',"w":' + json.dumps(entry()).encode() + b"}", EIGHT),
        "a name stands in its header twice",
    ),
    "nothing": (with_header({"__metadata__": {}}), "holds no weights"),
}


def test_counters_in_safetensors_are_read(tmp_path):
    """PyTorch's batch norm counts its batches in 64-bit integers."""
    content = with_header(
        {"seen": entry("I64", (), (0, 8)), "w": entry("F32", (1,), (8, 12))}, b"\7" + EIGHT + b"\0\0\0"
    )
    (tmp_path / "a.safetensors").write_bytes(content)
    weights = read_safetensors_checkpoint(tmp_path / "a.safetensors")
    assert weights["seen"] == 7
    assert weights["seen"].dtype == np.int64


@pytest.mark.parametrize("lie", LIES)
def test_a_safetensors_file_that_lies_is_refused(tmp_path, lie):
    content, message = LIES[lie]
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"a\.safetensors .*{message}"):
        read_safetensors_checkpoint(tmp_path / "a.safetensors")


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_to_safetensors_is_an_error_of_ours_or_leaves_the_weights(tmp_path, data):
    content = bytearray(safetensors_bytes({"w": np.arange(6, dtype="float32").reshape(2, 3), "b": np.zeros(2)}))
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    (tmp_path / "a.safetensors").write_bytes(content)
    try:
        arrays = read_safetensors_checkpoint(tmp_path / "a.safetensors")
    except ModelFileError as error:
        assert "a.safetensors" in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= 2 * 40


def test_objects_in_an_npz_file_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.array([{"code": 1}], object))
    with pytest.raises(ModelFileError, match=r"a\.npz is refused as an \.npz file of weights: Object arrays cannot"):
        read_npz_checkpoint(tmp_path / "a.npz")


def test_other_npz_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.zeros(100))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"a\.npz is refused"):
            read_npz_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(ModelFileError, match=r"readme\.txt: no array"):
        read_npz_checkpoint(path)
    np.savez(path)
    with pytest.raises(ModelFileError, match="holds no weights"):
        read_npz_checkpoint(path)


def test_an_npz_file_that_unpacks_to_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", w=np.zeros(3))
    monkeypatch.setattr("lightcnn.importing.array_files.fits_memory", lambda archive: False)
    with pytest.raises(ModelFileError, match="more than this machine's memory"):
        read_npz_checkpoint(tmp_path / "a.npz")


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + EIGHT)
    with pytest.raises(ModelFileError, match=r"a\.npz is refused"):
        read_npz_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["missing.npz", "missing.safetensors", "missing.pth.tar", "."])
def test_missing_files_are_refused(tmp_path, name):
    with pytest.raises(ModelFileError, match="does not exist or is not a file"):
        convert(tmp_path / name, tmp_path / "out.keras")
