"""The mean of a network's weights over the last epochs, and batch norm's statistics for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["averaged", "mean_with"]


def mean_with(mean: list[NDArray[np.float64]], count: int, model: Any) -> list[NDArray[np.float64]]:
    """Returns the mean of a model's trainable weights and of `count` others, whose mean is given."""
    weights = [keras.ops.convert_to_numpy(one).astype(np.float64) for one in model.trainable_variables]
    return [old + (new - old) / (count + 1) for old, new in zip(mean, weights, strict=True)] if count else weights


@contextmanager
def averaged(model: Any, mean: list[NDArray[np.float64]], inputs: Iterable[Any]) -> Iterator[None]:
    """Gives a model the mean of its weights for a while.

    The moving statistics of batch norm belong to the last weights. Those of the mean are measured on `inputs`, every
    batch with the same share, with dropout and SpecAugment as in training.

    Reference:
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (stochastic weight
        averaging): https://arxiv.org/abs/1803.05407

    Args:
        model: A `keras.Model`.
        mean: The mean of its trainable weights.
        inputs: Batches, as the model takes them; not asked for if the model has no batch norm.
    """
    layers = list(_norms(model))
    statistics = {id(one) for layer in layers for one in (layer.moving_mean, layer.moving_variance)}
    before = [(one, keras.ops.convert_to_numpy(one)) for one in model.variables]
    for variable, value in zip(model.trainable_variables, mean, strict=True):
        variable.assign(value.astype(np.float32))
    momenta = [layer.momentum for layer in layers]
    try:
        for index, batch in enumerate(inputs if layers else ()):
            for layer in layers:
                layer.momentum = index / (index + 1)
            model(batch, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    for variable, value in before:
        if not (variable.trainable or id(variable) in statistics):
            variable.assign(value)  # random states and steps, which measuring moves on
    yield
    for variable, value in before:
        variable.assign(value)


def _norms(layer: Any) -> Iterator[Any]:
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
        yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _norms(inner)
