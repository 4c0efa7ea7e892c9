"""Networks of this package in PyTorch, channels-last, with the same weights: what the scripts compare speed with.

Layers and front ends are PyTorch's own. Needs `KERAS_BACKEND=torch`.
"""

import keras
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lightcnn import frontends, layers


def torch_twin(model):
    """Returns a network that takes and gives what a Keras model of one input does: pictures with the channels last."""
    weights, model = model.get_weights(), keras.models.clone_model(model)  # whose layers are each called once
    model.set_weights(weights)
    places = {model.layers[0].name: 0}
    steps, modules = [], nn.ModuleList()

    def place(tensor):
        operation = tensor._keras_history.operation  # between layers Keras may convert tensors
        return places[operation.name] if operation.name in places else place(operation.input)

    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        steps.append(tuple(map(place, inputs)))
        places[layer.name] = len(steps)
        modules.append(_MODULES[type(layer)](layer))
    return _Twin(steps, modules, len(model.input_shape) == 4).eval()


class _Twin(nn.Module):
    def __init__(self, steps, modules, is_for_pictures):
        super().__init__()
        self.steps, self.parts, self.is_for_pictures = steps, modules, is_for_pictures
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        values = [x.permute(0, 3, 1, 2) if self.is_for_pictures else x]  # that is channels_last in memory
        for inputs, part in zip(self.steps, self.parts, strict=True):
            values.append(part(*(values[place] for place in inputs)))
        return values[-1]


class _Function(nn.Module):
    def __init__(self, function, *tensors):
        super().__init__()
        self.function = function
        for index, tensor in enumerate(tensors):
            self.register_buffer(f"tensor_{index}", torch.as_tensor(np.asarray(tensor, np.float32)))

    def forward(self, *inputs):
        return self.function(*inputs, *self.buffers())


class _MFM(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return torch.maximum(*self.linear(x).chunk(2, dim=1))


class _Halves(nn.Module):
    """MFM of a convolution, each of its halves as a convolution of its own."""

    def __init__(self, both):
        super().__init__()
        groups = zip(both.weight.chunk(2), both.bias.chunk(2), strict=True)
        self.parts = nn.ModuleList(_half(both, weight, bias) for weight, bias in groups)

    def forward(self, x):
        return torch.maximum(*(part(x) for part in self.parts))


def _half(both, weight, bias):
    half = nn.Conv2d(both.in_channels, len(weight), both.kernel_size, padding=both.padding)
    half.load_state_dict({"weight": weight, "bias": bias})
    return half


def split_convolutions(twin):
    """Replaces the convolutions before MFM in a network of `torch_twin` by two, one for each half."""
    for index, part in enumerate(twin.parts):
        if isinstance(part, _MFM) and isinstance(part.linear, nn.Conv2d):
            twin.parts[index] = _Halves(part.linear)
    return twin.to(memory_format=torch.channels_last)


class _Residual(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first, self.second = (_mfm_convolution(one) for one in (layer.first, layer.second))

    def forward(self, x):
        return x + self.second(self.first(x))


def _filled(module, **arrays):
    """Puts arrays of a Keras layer into a module; those that the layer lacks stay as they are."""
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items() if array is not None}
    module.load_state_dict(state, strict=False)
    return module


def _array(variable):
    return None if variable is None else keras.ops.convert_to_numpy(variable)


def _mfm_convolution(layer):
    if layer.num_groups != 2:
        raise NotImplementedError("only MFM 2/1 is written for PyTorch")
    kernel = _array(layer.convolution.kernel).transpose(3, 2, 0, 1)
    padding = 0 if layer.convolution.padding == "valid" else tuple(size // 2 for size in kernel.shape[2:])
    convolution = nn.Conv2d(kernel.shape[1], len(kernel), kernel.shape[2:], padding=padding)
    return _MFM(_filled(convolution, weight=kernel, bias=_array(layer.convolution.bias)))


def _linear(layer):
    kernel = _array(layer.kernel).T
    linear = nn.Linear(kernel.shape[1], len(kernel), bias=layer.use_bias)
    return _filled(linear, weight=kernel, bias=_array(layer.bias))


def _batch_norm(layer):
    kind = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(layer.input.shape)]
    module = kind(layer.input.shape[-1], layer.epsilon, 1 - layer.momentum)
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return _filled(module, **{name: _array(getattr(layer, ours)) for name, ours in names.items()})


def _rescaling(layer):
    return _Function(
        lambda x, scale, offset: x * scale + offset,
        *(np.reshape(value, (-1, 1, 1)) for value in (layer.scale, layer.offset)),
    )


def _activation(layer):
    return {"softmax": nn.Softmax(1), "linear": nn.Identity()}[layer.activation.__name__]


def _score(layer):
    return _Function({"sigmoid": lambda x: x[:, 0], "softmax": lambda x: x[:, 1] - x[:, 0]}[layer.head])


def _power(layer, samples, window):
    if layer.pre_emphasis:
        samples = torch.cat([samples[:, :1], samples[:, 1:] - layer.pre_emphasis * samples[:, :-1]], dim=1)
    spectrum = torch.stft(
        samples, layer._fft_length, layer.frame_step, layer.frame_length, window,
        center=True, pad_mode="constant", return_complex=True,
    )  # fmt: skip
    return spectrum.abs().square().transpose(1, 2)


_WINDOWS = {"hamming": torch.hamming_window, "blackman": torch.blackman_window}


def _spectrum(layer):
    window = _WINDOWS[layer.window](layer.frame_length, layer.periodic_window)
    return _Function(lambda samples, window: torch.log(_power(layer, samples, window) + layer.epsilon), window)


def _lfcc(layer):
    """LFCC with energy and two orders of deltas, as in NII's code."""
    window = _WINDOWS[layer.window](layer.frame_length, layer.periodic_window)

    def delta(x):
        padded = functional.pad(x.transpose(1, 2), (1, 1), "replicate").transpose(1, 2)
        return padded[:, 2:] - padded[:, :-2]

    def features(samples, window, filters, cosines):
        power = _power(layer, samples, window)
        cepstra = torch.log10(power @ filters + layer.epsilon) @ cosines
        energy = torch.log10(power.sum(dim=2, keepdim=True) / layer._fft_length + layer.epsilon)
        cepstra = torch.cat([energy, cepstra[..., 1:]], dim=2)
        first = delta(cepstra)
        return torch.cat([cepstra, first, delta(first)], dim=2)

    return _Function(features, window, layer.filters, layer.cosines)


def _pool(module):
    def build(layer):
        return module(2, ceil_mode=layer.padding == "same")

    return build


_MODULES = {
    keras.layers.Activation: _activation,
    keras.layers.Add: lambda layer: _Function(torch.add),
    keras.layers.AveragePooling2D: _pool(nn.AvgPool2d),
    keras.layers.BatchNormalization: _batch_norm,
    keras.layers.Dense: _linear,
    keras.layers.Dropout: lambda layer: nn.Dropout(layer.rate),
    keras.layers.Flatten: lambda layer: _Function(lambda x: x.permute(0, 2, 3, 1).flatten(1)),
    keras.layers.Identity: lambda layer: nn.Identity(),
    keras.layers.MaxPooling2D: _pool(nn.MaxPool2d),
    keras.layers.Rescaling: _rescaling,
    keras.layers.Reshape: lambda layer: _Function(lambda x: x[:, None]),  # features (batch, time, bins) as pictures
    frontends.LFCC: _lfcc,
    frontends.Spectrum: _spectrum,
    layers.BatchNormalization: _batch_norm,
    layers.BonaFideScore: _score,
    layers.MFMConv2D: _mfm_convolution,
    layers.MFMDense: lambda layer: _MFM(_linear(layer.dense)),
    layers.MaxFeatureMap: lambda layer: _MFM(nn.Identity()),
    layers.ResidualMFMBlock: _Residual,
}
