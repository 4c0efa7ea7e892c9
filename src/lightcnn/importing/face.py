"""The released Light CNNs for faces -> ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lightcnn.errors import ModelFileError
from lightcnn.models import FACE_PRESETS, light_cnn_4, light_cnn_9, light_cnn_29, light_cnn_29v2, light_cnn_v4

__all__ = ["is_light_cnn", "light_cnn"]

_LARGEST_DIFFERENCE = 1e-4  # float32 gives some 1e-6; a wrong order or pooling gives some 1e-1


@dataclass(frozen=True)
class _Released:
    """A released network: how its weights are called, and what its arithmetic is besides them.

    Attributes:
        title: Its name in the paper.
        build: The function that makes ours.
        told_by: Some weight's name begins with each of these.
        layers: Our layer -> the beginnings of its weights' names, in the order of the network. Two convolutions are a
            residual block.
        pooled: The layers before a pooling.
        summed: Whether a pooling is the sum of maximum and average.
        padded: Whether the convolutions are padded.
    """

    title: str
    build: Callable[..., Any]
    told_by: tuple[str, ...]
    layers: dict[str, list[str]]
    pooled: tuple[str, ...] = ("conv1", "conv2", "conv3", "conv5")
    summed: bool = False
    padded: bool = True


def _residual_layers(between, ends):
    """Returns the `layers` of a network with residual blocks, given those between the blocks and the dense ones."""
    layers = {"conv1": ["conv1.filter"]}
    for stage in range(1, 5):
        for block in range(stage):
            prefixes = [f"block{stage}.{block}.conv{half}.filter" for half in (1, 2)]
            layers[f"conv{stage + 1}_{block + 1}"] = prefixes
        layers |= {ours.format(stage + 1): [theirs.format(stage, stage + 1)] for ours, theirs in between.items()}
    return layers | ends


_GROUPS = {"conv{}a": "group{0}.conv_a.filter", "conv{}": "group{0}.conv.filter"}
_PLACES_9 = {2: 2, 3: 4, 4: 6, 5: 7}  # of Light CNN-9's groups in its torch.nn.Sequential
# The first that fits is taken: the names that tell Light CNN-29 would pass as 29v2's.
_RELEASED = {
    "light_cnn_4": _Released(
        "Light CNN-4",
        light_cnn_4,
        ("0.", "9.1."),
        {
            "conv1": ["0"],
            "conv2": ["2"],
            "conv3": ["4"],
            "conv4": ["6"],
            "embedding": ["9.1"],
            "logits": ["12.1"],
        },
        pooled=("conv1", "conv2", "conv3", "conv4"),
        padded=False,
    ),
    "light_cnn_9": _Released(
        "Light CNN-9",
        light_cnn_9,
        ("features.0.filter.",),
        {
            "conv1": ["features.0.filter"],
            **{
                f"conv{index}{suffix}": [f"features.{place}.conv{'_a' if suffix else ''}.filter"]
                for index, place in _PLACES_9.items()
                for suffix in ("a", "")
            },
            "embedding": ["fc1.filter"],
            "logits": ["fc2"],
        },
    ),
    "light_cnn_29": _Released(
        "Light CNN-29",
        light_cnn_29,
        ("fc.filter.", "group1."),
        _residual_layers(_GROUPS, {"embedding": ["fc.filter"], "logits": ["fc2"]}),
    ),
    "light_cnn_29v2": _Released(
        "Light CNN-29v2",
        light_cnn_29v2,
        ("fc.", "group1."),
        _residual_layers(_GROUPS, {"embedding": ["fc"], "logits": ["fc2"]}),
        summed=True,
    ),
    "light_cnn_v4": _Released(
        "Light CNN v4",
        light_cnn_v4,
        ("fc.", "conv2.filter."),
        # The release has no classifier; one under this name may have been added.
        _residual_layers({"conv{}": "conv{1}.filter"}, {"embedding": ["fc"], "logits": ["fc2"]}),
        summed=True,
    ),
}


_CLASSIFIERS = {f"{released.layers['logits'][0]}.weight" for released in _RELEASED.values()}


def _variant(weights):
    """Returns whose weights these are: by the names that tell, else by most of the names; None if few are known."""
    for name, released in _RELEASED.items():
        if all(any(key.startswith(start) for key in weights) for start in released.told_by):
            return name
    shares = {name: _overlap(weights, released) for name, released in _RELEASED.items()}
    nearest = max(shares, key=lambda name: shares[name])
    return nearest if shares[nearest] > 0.5 else None


def _overlap(weights, released):
    """Returns which share of all names, the checkpoint's and the network's, both have."""
    prefixes = {prefix for layer in released.layers.values() for prefix in layer}
    theirs = {key.rpartition(".")[0] for key in weights}
    return len(prefixes & theirs) / len(prefixes | theirs)


def is_light_cnn(weights):
    """Tells whether the weights of a checkpoint are those of a released Light CNN for faces."""
    return _variant(weights) is not None


def light_cnn(weights, keep_classifier=True):
    """Makes a model out of the weights of a released Light CNN-4, -9, -29, -29v2 or v4.

    PyTorch flattens a feature map channel by channel and Keras pixel by pixel, so the rows of the first dense kernel
    change places. Afterwards the checkpoint's own arithmetic is computed in NumPy on one picture of noise, channels
    first and with the weights as they are in the file, and the model must agree.

    Args:
        weights: Arrays by name, as `read_torch_checkpoint` gives them.
        keep_classifier: Boolean. Whether the classifier of the training's identities stays, if there is one.

    Returns:
        A `keras.Model` from `"pixels"`, `(batch, 128, 128, channels)` from 0 to 255, to the embedding `(batch, 256)`
        or, with a classifier, to logits `(batch, classes)`; and what a user of the model must know, a dictionary. Its
        `"parity"` is the largest difference between both embeddings, and between both logits if they stay, as a
        fraction of the largest value.

    Raises:
        ModelFileError: If weights are missing, unknown, of another shape or not finite, each of them named, or if the
            model does not agree with the checkpoint's arithmetic.

    Example:
    >>> model, metadata = light_cnn(read_torch_checkpoint("LightCNN_29Layers_checkpoint.pth.tar"))
    """
    name = _variant(weights)
    released, preset = _RELEASED[name], FACE_PRESETS[name]
    layers, num_classes = dict(released.layers), None
    (classifier,) = layers["logits"]
    has_classifier = any(key.startswith(f"{classifier}.") for key in weights)
    if has_classifier and keep_classifier:
        num_classes = _num_classes(weights.get(f"{classifier}.weight"))
    else:
        del layers["logits"]
        weights = {key: value for key, value in weights.items() if not key.startswith(f"{classifier}.")}
    network = released.build(num_classes=num_classes, kernel_initializer="zeros", scale=preset.scale, name=name)
    keys, shapes = _expected(network, layers)
    _check(released.title, weights, shapes)
    height, width, channels = network.get_layer("flatten").input.shape[1:]
    for layer_name, layer_keys in keys.items():
        flattened = (channels, height, width) if layer_name == "embedding" else None
        layer = network.get_layer(layer_name)
        layer.set_weights(
            [
                _rearranged(weights[key], variable.shape, flattened)
                for key, variable in zip(layer_keys, layer.weights, strict=True)
            ]
        )
    metadata = {
        "format": 1,
        "task": "face representation",
        "network": name,
        "embedding": {"layer": "embedding", "size": int(network.get_layer("embedding").output.shape[-1])},
        "classes": num_classes,
        # The model's first layer scales, so the range is that of the pixels in a file.
        "input": {
            "shape": list(preset.input_shape),
            "dtype": "uint8",
            "range": [0, 255],
            "colour": preset.colour,
        },
        "alignment": {
            "size": preset.input_shape[0],
            "eye_mouth_distance": preset.eye_mouth_distance,
            "eye_row": preset.eye_row,
        },
        "source": f"Wu et al., {released.title}, https://arxiv.org/abs/1511.02683",
        "parity": _parity(released, weights, network, preset),
    }
    return network, metadata


def _num_classes(kernel):
    """Returns how many classes a classifier is for; 2 if its weights are no classifier's, which the check reports."""
    return kernel.shape[0] if kernel is not None and kernel.ndim == 2 and kernel.shape[0] >= 2 else 2


def _expected(network, layers):
    """Returns the checkpoint's names of each layer's weights, and the shape that each must have there."""
    keys, shapes = {}, {}
    for layer_name, prefixes in layers.items():
        variables = network.get_layer(layer_name).weights
        parts = ("weight", "bias")[: len(variables) // len(prefixes)]
        keys[layer_name] = [f"{prefix}.{part}" for prefix in prefixes for part in parts]
        for key, variable in zip(keys[layer_name], variables, strict=True):
            *before, last = tuple(variable.shape)
            shapes[key] = (last, *before[-1:], *before[:-1])
    return keys, shapes


def _check(title, weights, shapes):
    present = {key: value for key, value in weights.items() if key in shapes}
    faults = {
        "missing": [key for key in shapes if key not in weights],
        "unknown": [key for key in weights if key not in shapes],
        "of another shape": [
            f"{key} {value.shape} instead of {_shape(key, shapes[key])}"
            for key, value in present.items()
            if value.shape != shapes[key]
        ],
        "not finite floating-point numbers": [
            key for key, value in present.items() if value.dtype.kind != "f" or not np.isfinite(value).all()
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in faults.items() if keys)
        raise ModelFileError(
            f"The checkpoint is {title} by its weights' names, but does not fit the released network of "
            f"{len(shapes)} weights. Received: {len(weights)} weights; {told}. Save the network's whole state_dict() "
            "and nothing else."
        )


def _shape(key, shape):
    """Returns a shape as a message has it: a classifier's number of classes is free."""
    return f"(classes, {shape[1]})" if key in _CLASSIFIERS else shape


def _rearranged(value, shape, flattened):
    """Returns a weight in Keras' order; `flattened` is the (channels, height, width) that a dense kernel is for."""
    value = np.asarray(value, "float32")
    if value.ndim == 1:
        return value
    if flattened is not None:
        value = value.reshape(-1, *flattened)
    return value.transpose(*range(2, value.ndim), 1, 0).reshape(shape)


def _parity(released, weights, network, preset):
    """Returns how far the model is from the checkpoint's own arithmetic, and refuses if that is too far."""
    pixels = np.random.default_rng(0).integers(0, 256, preset.input_shape)
    embedder = keras.Model(network.input, [network.get_layer("embedding").output, network.output])
    ours = [keras.ops.convert_to_numpy(output)[0] for output in embedder(pixels[None].astype("float32"))]
    (classifier,) = released.layers["logits"]
    with np.errstate(all="ignore"):  # what is not finite is refused below
        theirs = [_embedding(released, weights, pixels.transpose(2, 0, 1) / 255)]
        if f"{classifier}.weight" in weights:
            bias = weights.get(f"{classifier}.bias", 0)
            theirs.append(weights[f"{classifier}.weight"].astype("float64") @ theirs[0] + bias)
        # without a classifier the network's output is the embedding
        difference = max(map(_difference, ours, theirs), key=lambda value: (np.isnan(value), value))
    if not difference <= _LARGEST_DIFFERENCE:  # written so that NaN is refused too
        raise ModelFileError(
            f"The model made of the checkpoint, {released.title}, does not give the checkpoint's outputs: they "
            f"differ by {difference:.1e} of the largest value, expected at most {_LARGEST_DIFFERENCE:.0e}. Nothing was "
            "written. If the weights are the released ones, please report this."
        )
    return difference


def _difference(ours, theirs):
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), np.finfo(float).tiny))


def _embedding(released, weights, x):
    """States the checkpoint's arithmetic on one picture, `(channels, height, width)` in [0, 1], in float64."""
    for name, prefixes in released.layers.items():
        if name == "embedding":
            break
        y = x
        for prefix in prefixes:
            y = _larger_half(_convolved(y, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"], released.padded))
        x = x + y if len(prefixes) == 2 else y
        if name in released.pooled:
            x = _pooled(x, released.summed)
    (prefix,) = released.layers["embedding"]
    x = weights[f"{prefix}.weight"].astype("float64") @ x.ravel() + weights[f"{prefix}.bias"]
    return _larger_half(x) if len(x) == 512 else x  # 512 are for MFM


def _larger_half(x):
    return x.reshape(2, -1, *x.shape[1:]).max(axis=0)


def _convolved(x, kernel, bias, padded):
    size = kernel.shape[-1]
    side = size // 2 if padded else 0
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((0, 0), (side, side), (side, side))), (size, size), axis=(1, 2)
    )
    return np.tensordot(kernel.astype("float64"), windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None]


def _pooled(x, summed):
    # An odd size is rounded up, which at 128 x 128 happens to Light CNN-4 only.
    x = np.pad(x, [(0, 0), *((0, size % 2) for size in x.shape[1:])], constant_values=-np.inf)
    blocks = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2)
    return blocks.max(axis=(2, 4)) + (blocks.mean(axis=(2, 4)) if summed else 0)
