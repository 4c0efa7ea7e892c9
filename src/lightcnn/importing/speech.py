"""Other people's countermeasures -> ours."""

import numpy as np

from lightcnn import frontends
from lightcnn.datasets import SPEECH_LABELS
from lightcnn.errors import ModelFileError
from lightcnn.models import from_samples, lcnn_lstm_sum

__all__ = ["is_nii_lcnn_lstm", "nii_lcnn_lstm"]

# Where NII's torch.nn.Sequential has the nine convolutions, and the batch norms after some of them.
_CONVOLUTIONS = {1: 0, 2: 3, 3: 6, 4: 10, 5: 13, 6: 16, 7: 19, 8: 22, 9: 25}
_NORMS = {2: 5, 3: 9, 4: 12, 6: 18, 7: 21, 8: 24}
_TRUNK = "m_transform.0"
_LSTM = "m_before_pooling.0.{}.l_blstm"
_CLASSIFIER = "m_output_act.0"
_FILTERS = "m_frontend.0.lfcc_fb"
_FILTERS_SHAPE = (257, 20)


def is_nii_lcnn_lstm(weights):
    """Tells whether the weights of a PyTorch checkpoint are those of an LCNN-LSTM of NII."""
    return f"{_LSTM.format(0)}.weight_ih_l0" in weights and f"{_TRUNK}.0.weight" in weights


def nii_lcnn_lstm(weights):
    """Makes a model that takes samples out of NII's LFCC-LCNN-LSTM with a sigmoid.

    PyTorch's gates come in Keras' order (input, forget, cell, output), and its two biases are added to one.

    Args:
        weights: Arrays by name, as `read_torch_checkpoint` gives them.

    Returns:
        A `keras.Model` from `"samples"`, `(batch, samples)` at 16,000 Hz in [-1, 1], and `"lengths"`, `(batch,)`, to
        scores `(batch,)`, which are the network's logits; and what a user of the model must know, a dictionary.

    Raises:
        ModelFileError: If weights are missing or of another shape, as in the variants with other heads or features.

    Example:
    >>> model, metadata = nii_lcnn_lstm(read_torch_checkpoint("trained_network.pt"))
    """
    if getattr(weights.get(_FILTERS), "shape", None) != _FILTERS_SHAPE:
        raise ModelFileError(
            f"The checkpoint is an LCNN-LSTM of NII, but {_FILTERS}, its filter bank of LFCC, is not {_FILTERS_SHAPE}. "
            f"Only models of NII's LFCC with an FFT of 512 are read. Received: {_shape(weights, _FILTERS)}"
        )
    network = lcnn_lstm_sum(60, head="sigmoid", output="score", pooling="mean", name="nii_lfcc_lcnn_lstm")
    for index, position in _CONVOLUTIONS.items():
        kernel = _get(weights, f"{_TRUNK}.{position}.weight", axes=4).transpose(2, 3, 1, 0)
        _set(network, f"conv_{index}", kernel, _get(weights, f"{_TRUNK}.{position}.bias"))
    for index, position in _NORMS.items():
        names = (f"{_TRUNK}.{position}.{statistic}" for statistic in ("running_mean", "running_var"))
        _set(network, f"norm_{index}", *(_get(weights, name) for name in names))
    for index in (1, 2):
        prefix, values = _LSTM.format(index - 1), []
        for direction in ("l0", "l0_reverse"):
            kernels = [_get(weights, f"{prefix}.weight_{part}_{direction}").T for part in ("ih", "hh")]
            biases = [_get(weights, f"{prefix}.bias_{part}_{direction}") for part in ("ih", "hh")]
            if biases[0].shape != biases[1].shape:
                raise ModelFileError(f"The checkpoint's biases of {prefix} ({direction}) are of unlike lengths.")
            values += [*kernels, biases[0] + biases[1]]
        _set(network, f"lstm_{index}", *values)
    _set(network, "head", _get(weights, f"{_CLASSIFIER}.weight").T, _get(weights, f"{_CLASSIFIER}.bias"))
    metadata = {
        "format": 1,
        "task": "voice anti-spoofing",
        "labels": list(SPEECH_LABELS),
        "score": "higher = more bona fide",
        "head": "sigmoid",
        "sampling_rate": 16000,
        "input": {"window_samples": 64000, "pad": "repeat"},
        "source": "NII (Yamagishi laboratory), LFCC-LCNN-LSTM-sum with sigmoid, https://arxiv.org/abs/2103.11326",
    }
    return from_samples(frontends.lfcc_nii(name="front_end"), network), metadata


def _shape(weights, name):
    return f"{name} of shape {weights[name].shape}" if name in weights else f"no {name}"


def _get(weights, name, axes=None):
    if name not in weights:
        raise ModelFileError(f"The checkpoint is an LCNN-LSTM of NII, but it has no {name}. Is it complete?")
    if axes not in (None, weights[name].ndim):
        raise ModelFileError(f"Expected {axes} axes of {name}. Received: {_shape(weights, name)}")
    if weights[name].dtype.kind != "f" or not np.isfinite(weights[name]).all():
        raise ModelFileError(f"The checkpoint's {name} is no array of finite numbers. Is it damaged?")
    return weights[name]


def _set(network, name, *values):
    layer = network.get_layer(name)
    shapes, expected = [value.shape for value in values], [tuple(weight.shape) for weight in layer.weights]
    if shapes != expected:
        raise ModelFileError(
            f"The checkpoint's weights for {name!r} do not fit NII's LFCC-LCNN-LSTM with a sigmoid, the only variant "
            f"that is read. Expected shapes: {expected}. Received: {shapes}"
        )
    layer.set_weights(values)
