"""An ONNX graph under construction: values that know where their axes are, and arithmetic on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

__all__ = ["DTYPES", "Graph", "Value", "channels_first", "concatenate", "plain", "where"]

# 18 has all that is needed, and old runtimes read it.
_OPSET, _IR_VERSION = 18, 8
DTYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "bool": onnx.TensorProto.BOOL,
}


@dataclass(eq=False)
class Graph:
    """Nodes and constants in the order in which they were added.

    Attributes:
        nodes: ONNX nodes.
        constants: Arrays by the names that nodes know them by.
        scalable: Outputs that a positive scale and an offset a channel can be folded into: for each its
            `(kernel, bias, offset counts)`, names of constants whose first axis is that of the channels.
        scope: What the names of new nodes and constants begin with: the layer's name.
        mfm: How each MFM of a convolution is written, one after the other, as in `to_onnx`.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    scalable: dict[str, tuple[tuple[str, str, bool], ...]] = field(default_factory=dict)
    scope: str = ""
    mfm: Iterator[str] = field(default_factory=lambda: repeat("sum"))
    _names: Counter[str] = field(default_factory=Counter)
    _shared: list[str] = field(default_factory=list)

    def name(self, kind: str) -> str:
        """Returns a name that nothing else has."""
        stem = f"{self.scope}/{kind}" if self.scope else kind
        self._names[stem] += 1
        return stem if self._names[stem] == 1 else f"{stem}_{self._names[stem]}"

    def constant(self, array: Any, dtype: str | None = None, kind: str = "constant") -> str:
        """Adds a constant and returns its name; equal small ones are shared, but no weights, which may be changed."""
        array = np.asarray(array, dtype)
        if array.size <= 16 and kind == "constant":
            for name in self._shared:
                other = self.constants[name]
                if other.dtype == array.dtype and other.shape == array.shape and np.array_equal(other, array):
                    return name
        name = self.name(kind)
        self.constants[name] = array
        if kind == "constant":
            self._shared.append(name)
        return name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node and returns the name of its output, or the names of several."""
        names = [self.name(operator) for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def value(self, array: Any, dtype: str | None = None) -> Value:
        """Returns a constant as a value."""
        array = np.asarray(array, dtype)
        return Value(self, self.constant(array), tuple(range(array.ndim)), str(array.dtype))

    def model(self, inputs: list[Any], outputs: list[Any], name: str) -> onnx.ModelProto:
        """Returns the finished model.

        Args:
            inputs: `ValueInfoProto` of each input.
            outputs: The same of each output.
            name: Name of the graph.
        """
        constants = [onnx.numpy_helper.from_array(np.asarray(v, order="C"), k) for k, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initializer=constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="lightcnn")
        model.ir_version = _IR_VERSION
        return model


def plain(rank: int) -> tuple[int, ...]:
    """Returns the order of axes that Keras has."""
    return tuple(range(rank))


def channels_first(rank: int) -> tuple[int, ...]:
    """Returns the order of axes with the channels, Keras' last, in the second place."""
    return (0, rank - 1, *range(1, rank - 1))


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph, with Keras' axes in an order of its own.

    Arithmetic adds nodes. Axes are named as in Keras, whatever their order is, so an emitter reads as its layer does,
    and a transposition is added where an order is really needed.

    Attributes:
        graph: The graph.
        name: Of the tensor.
        order: `order[i]` is the axis in Keras of the tensor's axis `i`.
        dtype: A key of `DTYPES`.
    """

    graph: Graph
    name: str
    order: tuple[int, ...]
    dtype: str = "float32"

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.order)

    def axis(self, axis: int) -> int:
        """Returns where an axis of Keras is."""
        return self.order.index(axis % self.rank)

    def arranged(self, order: tuple[int, ...] | None = None) -> Value:
        """Returns the same with another order of axes; None for Keras' own."""
        order = plain(self.rank) if order is None else order
        if order == self.order:
            return self
        return self.apply("Transpose", perm=[self.order.index(axis) for axis in order])._with(order=order)

    def _with(self, **changes: Any) -> Value:
        return replace(self, **changes)

    def apply(self, operator: str, *others: str, dtype: str | None = None, **attributes: Any) -> Value:
        """Returns what an operator makes of this value and other inputs, its axes in the same order."""
        return self._with(
            name=self.graph.node(operator, self.name, *others, **attributes),
            dtype=self.dtype if dtype is None else dtype,
        )

    def cast(self, dtype: str) -> Value:
        """Returns the same in another type."""
        return self if dtype == self.dtype else self.apply("Cast", dtype=dtype, to=DTYPES[dtype])

    def _binary(self, operator: str, other: Any, dtype: str | None = None, swapped: bool = False) -> Value:
        if not isinstance(other, Value):
            other = self.graph.value(other, self.dtype)
        if 0 in (self.rank, other.rank) or self.order == other.order:
            one, two = self, other
        else:
            one, two = self.arranged(), other.arranged()
        order = max(one.order, two.order, key=len)
        names = (two.name, one.name) if swapped else (one.name, two.name)
        return one._with(name=self.graph.node(operator, *names), order=order, dtype=dtype or self.dtype)

    def __add__(self, other: Any) -> Value:
        return self._binary("Add", other)

    def __sub__(self, other: Any) -> Value:
        return self._binary("Sub", other)

    def __mul__(self, other: Any) -> Value:
        return self._binary("Mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._binary("Div", other)

    def __radd__(self, other: Any) -> Value:
        return self._binary("Add", other)

    def __rmul__(self, other: Any) -> Value:
        return self._binary("Mul", other)

    def __rsub__(self, other: Any) -> Value:
        return self._binary("Sub", other, swapped=True)

    def __rtruediv__(self, other: Any) -> Value:
        return self._binary("Div", other, swapped=True)

    def __mod__(self, other: Any) -> Value:
        return self._binary("Mod", other)  # of integers, with the sign of the divisor, as Python's

    def __floordiv__(self, other: Any) -> Value:
        whole: Value = self - self % other  # since ONNX divides integers towards zero
        return whole._binary("Div", other)

    def __lt__(self, other: Any) -> Value:
        return self._binary("Less", other, "bool")

    def __le__(self, other: Any) -> Value:
        return self._binary("LessOrEqual", other, "bool")

    def __gt__(self, other: Any) -> Value:
        return self._binary("Greater", other, "bool")

    def maximum(self, other: Any) -> Value:
        """Returns the larger of two values."""
        return self._binary("Max", other)

    def minimum(self, other: Any) -> Value:
        """Returns the smaller of two values."""
        return self._binary("Min", other)

    def matmul(self, matrix: NDArray[Any]) -> Value:
        """Returns the product of the last axis with a matrix `(in, out)`.

        A value with channels first is multiplied from the left, so that nothing is transposed.
        """
        matrix = np.asarray(matrix, np.float32)
        if self.rank == 3 and self.order == channels_first(3):
            return self._with(name=self.graph.node("MatMul", self.graph.constant(matrix.T, kind="kernel"), self.name))
        return self.arranged().apply("MatMul", self.graph.constant(matrix, kind="kernel"))

    def reduce(self, operator: str, axes: Any, keepdims: bool = False) -> Value:
        """Returns a reduction (`"ReduceSum"`, `"ReduceMean"`, `"ReduceMax"`) over axes of Keras."""
        axes = [axes] if isinstance(axes, int) else list(axes)
        places = sorted(self.axis(axis) for axis in axes)
        reduced = self.apply(operator, self.graph.constant(places, "int64"), keepdims=int(keepdims))
        if keepdims:
            return reduced
        gone = {axis % self.rank for axis in axes}
        kept = [axis for axis in self.order if axis not in gone]
        return reduced._with(order=tuple(sorted(kept).index(axis) for axis in kept))

    def size(self, axis: int) -> Value:
        """Returns the length of an axis, `(1,)` int64."""
        place = self.axis(axis)
        name = self.graph.node("Shape", self.name, start=place, end=place + 1)
        return Value(self.graph, name, (0,), "int64")

    def sliced(self, axis: int, start: Any = 0, stop: Any = None) -> Value:
        """Returns the part from `start` to before `stop` of an axis; both integers or values `(1,)` int64."""
        stop = np.iinfo(np.int64).max if stop is None else stop
        bounds = [
            bound.name if isinstance(bound, Value) else self.graph.constant([bound], "int64") for bound in (start, stop)
        ]
        return self.apply("Slice", *bounds, self.graph.constant([self.axis(axis)], "int64"))

    def padded(self, axis: int, before: int, behind: int, mode: str = "constant") -> Value:
        """Returns the value with more at both ends of an axis: zeros, or with `"edge"` what stands there."""
        pads = np.zeros((2, self.rank), np.int64)
        pads[:, self.axis(axis)] = before, behind
        return self.apply("Pad", self.graph.constant(pads.ravel()), mode=mode)

    def reshaped(self, shape: Any) -> Value:
        """Returns the value in another shape; 0 keeps the size of an axis, -1 takes what is left."""
        reshaped = self.arranged().apply("Reshape", self.graph.constant(list(shape), "int64"))
        return reshaped._with(order=plain(len(shape)))

    def expanded(self, *axes: int) -> Value:
        """Returns the value with axes of size one at these places of the result."""
        rank = self.rank + len(axes)
        places = sorted(axis % rank for axis in axes)
        return self.arranged().apply("Unsqueeze", self.graph.constant(places, "int64"))._with(order=plain(rank))

    def split(self, count: int) -> list[Value]:
        """Returns equal parts of the last axis."""
        names = self.graph.node("Split", self.name, outputs=count, axis=self.axis(-1), num_outputs=count)
        return [self._with(name=name) for name in names]

    def positions(self, axis: int) -> Value:
        """Returns 0, 1, ... along an axis, `(size,)` int32."""
        size = self.size(axis).cast("int32").apply("Squeeze")
        zero, one = (self.graph.constant(number, "int32") for number in (0, 1))
        return Value(self.graph, self.graph.node("Range", zero, size.name, one), (0,), "int32")


def where(condition: Value, one: Any, other: Any) -> Value:
    """Returns `one` where a condition holds and `other` elsewhere; either may be a number."""
    sample = one if isinstance(one, Value) else other
    values = [item if isinstance(item, Value) else sample.graph.value(item, sample.dtype) for item in (one, other)]
    orders = {value.order for value in (condition, *values) if value.rank}
    if len(orders) > 1:
        condition, *values = (value.arranged() for value in (condition, *values))
    order = max((value.order for value in (condition, *values)), key=len)
    name = sample.graph.node("Where", condition.name, *(value.name for value in values))
    return Value(sample.graph, name, order, sample.dtype)


def concatenate(values: list[Value], axis: int) -> Value:
    """Returns values one behind the other along an axis of Keras."""
    if len(values) == 1:
        return values[0]
    first = values[0]
    values = [value.arranged(first.order) for value in values]
    return first._with(name=first.graph.node("Concat", *(value.name for value in values), axis=first.axis(axis)))
