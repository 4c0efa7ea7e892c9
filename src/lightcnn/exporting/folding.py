"""Batch norms into the convolutions before them, the scale of pixels into those behind it."""

from __future__ import annotations

import numpy as np

from lightcnn.exporting.graph import Graph

__all__ = ["fold_batch_norms", "fold_scales"]


def fold_batch_norms(graph: Graph) -> None:
    """Puts batch norms into the weights before them and takes their nodes out, where that is exact.

    A positive scale and an offset pass through a maximum, so through MFM and max-pooling: into the convolution, and no
    border is touched, since padding comes before it. A batch norm with a scale that is not positive stays.
    """
    producers = {output: node for node in graph.nodes for output in node.output}
    uses: dict[str, int] = {}
    for node in graph.nodes:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    renamed, gone = {}, set()
    for node in graph.nodes:
        if node.op_type != "BatchNormalization":
            continue
        gamma, beta, mean, variance = (graph.constants[name].astype("float64") for name in node.input[1:])
        scale = gamma / np.sqrt(variance + next(a.f for a in node.attribute if a.name == "epsilon"))
        source = node.input[0]
        while uses[source] == 1 and source in producers and producers[source].op_type == "MaxPool":
            source = producers[source].input[0]
        weights = graph.scalable.get(source)
        if weights is None or uses[source] != 1 or not (scale > 0).all():
            continue
        for kernel, bias, takes_offset in weights:
            repeats = len(graph.constants[bias]) // len(scale)  # both halves of a convolution that is split after it
            factor = np.tile(scale, repeats)
            offset = np.tile(beta - mean * scale, repeats) if takes_offset else 0.0
            shaped = factor.reshape(-1, *[1] * (graph.constants[kernel].ndim - 1))
            graph.constants[kernel] = (graph.constants[kernel] * shaped).astype("float32")
            graph.constants[bias] = (graph.constants[bias] * factor + offset).astype("float32")
        renamed[node.output[0]] = node.input[0]
        gone.add(node.output[0])
        for name in node.input[1:]:
            del graph.constants[name]
    graph.nodes = [node for node in graph.nodes if node.output[0] not in gone]
    for node in graph.nodes:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)


# What is folded may differ by so much between channels, or from 1: beyond, fewer bits (8 for all input channels, 16 for
# a weight) would hold the picture or the kernel badly.
_LARGEST_RATIO, _LARGEST_FACTOR = 4.0, 2.0**8


def fold_scales(graph: Graph) -> None:
    """Puts a factor a channel into the kernels of the convolutions that take the product, where nothing else does.

    That is exact, since a convolution pads with zeros, which no factor changes. An offset would change them: it stays.
    """
    for node in list(graph.nodes):
        factor = graph.constants.get(node.input[1]) if node.op_type == "Mul" else None
        if factor is None or factor.shape[1:] != (1, 1):
            continue
        smallest, largest = np.abs(factor).min(), np.abs(factor).max()
        if largest > _LARGEST_RATIO * smallest or largest > _LARGEST_FACTOR or smallest < 1 / _LARGEST_FACTOR:
            continue
        users = [user for user in graph.nodes if node.output[0] in user.input]
        if {user.op_type for user in users} != {"Conv"}:
            continue
        for user in users:
            user.input[0] = node.input[0]
            graph.constants[user.input[1]] = (graph.constants[user.input[1]] * factor).astype("float32")
        graph.nodes.remove(node)
        if not any(node.input[1] in other.input for other in graph.nodes):
            del graph.constants[node.input[1]]
