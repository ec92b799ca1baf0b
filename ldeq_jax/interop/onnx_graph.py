"""A function of arrays, as JAX traces it, as an ONNX graph.

Each operation that JAX traces becomes one or a few nodes. Known are those that `interop.programs`
needs; another is refused by its name. Constants are computed and stored once, the same node is
never made twice, and what broadcasts in ONNX by itself is not copied out. Convolutions, pools and
the doubling of pictures become the operators of that name, which want channels first: onnxruntime
removes most of the transpositions around them.

The first axis of all inputs and outputs is the batch, of any length.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import helper, numpy_helper

from ldeq_jax.errors import UserError

OPSET = 18  # from here on, axes of all reductions are inputs
_IR_VERSION = 9
_BATCH = "B"
_NHWC_TO_NCHW, _NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)

# Operations whose operands broadcast, and the operator of the same meaning.
_ELEMENTWISE = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "neg": "Neg",
    "abs": "Abs",
    "floor": "Floor",
}
_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "mean": "ReduceMean",
}


def to_onnx(
    function: Callable[..., Mapping[str, jax.Array]],
    inputs: Mapping[str, tuple[tuple[int, ...], Any]],
    name: str,
) -> onnx.ModelProto:
    """Traces a function and writes it as an ONNX model.

    Args:
        function: it takes the inputs by their names and returns a dict, whose names are those of
            the outputs.
        inputs: shape, without the batch, and type of each.
        name: of the graph.

    Raises:
        UserError: the function needs an operation that is not known here.
    """
    (batch,) = jax.export.symbolic_shape(_BATCH)
    shapes = {key: jax.ShapeDtypeStruct((batch, *s), dtype) for key, (s, dtype) in inputs.items()}
    names: list[str] = []

    def listed(*arrays):
        results = function(**dict(zip(inputs, arrays, strict=True)))
        names.extend(results)
        return tuple(results.values())

    closed = jax.make_jaxpr(listed)(*shapes.values())
    graph = _Graph(next(iter(inputs)))
    given = [_Value(key, s.shape, s.shape, np.dtype(s.dtype)) for key, s in shapes.items()]
    results = graph.run(closed.jaxpr, closed.consts, given)
    outputs = [graph.named(key, value) for key, value in zip(names, results, strict=True)]
    proto = helper.make_graph(
        graph.needed_nodes(names),
        name,
        [_tensor_info(value) for value in given],
        [_tensor_info(value) for value in outputs],
        graph.needed_constants(),
    )
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Value:
    """An array of the traced program.

    Attributes:
        name: of the tensor; "" for a constant.
        shape: as JAX has it.
        held: shape of the tensor or constant, with a 1 for an axis that is broadcast only when a
            node needs it in full.
        dtype: of NumPy.
        array: the constant.
    """

    def __init__(self, name, shape, held, dtype, array=None):
        self.name, self.shape, self.held = name, tuple(shape), tuple(held)
        self.dtype, self.array = np.dtype(dtype), array


class _Graph:
    """The nodes so far, and the operations that make more of them."""

    def __init__(self, batch_input: str):
        self._batch_input = batch_input
        self._nodes: list[onnx.NodeProto] = []
        self._known: dict[Any, str] = {}  # names by what they were made of
        self._constants: dict[str, onnx.TensorProto] = {}
        # What some values were made of, by their names: operators stand for several operations.
        self._blocks: dict[str, _Value] = {}  # pictures, of their blocks (B, h, 2, w, 2, C)
        self._first: dict[str, _Value] = {}  # with channels first, of the same with channels last
        self._reductions: dict[str, tuple[Any, ...]] = {}
        self._convolutions: dict[str, tuple[Any, ...]] = {}

    # Nodes and constants.

    def run(self, jaxpr: Any, consts: Iterable[Any], arguments: Iterable[_Value]) -> list[_Value]:
        """Adds the nodes of a traced function."""
        env = dict(zip(jaxpr.invars, arguments, strict=True))
        env |= {v: _constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom):
            return (
                _constant(np.asarray(atom.val, atom.aval.dtype), atom.aval.shape)
                if isinstance(atom, Literal)
                else env[atom]
            )

        for eqn in jaxpr.eqns:
            values = self._results(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, values, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def named(self, name: str, value: _Value) -> _Value:
        """A result under the name of an output."""
        value = self._full(value)
        self._nodes.append(helper.make_node("Identity", [self._name(value)], [name]))
        return _Value(name, value.shape, value.shape, value.dtype)

    def needed_nodes(self, outputs: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes on which outputs depend, in order."""
        needed, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        self._constants = {k: tensor for k, tensor in self._constants.items() if k in needed}
        return nodes[::-1]

    def needed_constants(self) -> list[onnx.TensorProto]:
        """The constants of the nodes that `needed_nodes` has kept."""
        return list(self._constants.values())

    def _name(self, value):
        """The name of a value, which a constant gets now."""
        if value.array is None:
            return value.name
        array = np.ascontiguousarray(value.array).reshape(value.array.shape)
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = name = f"c{len(self._constants)}"
            self._constants[name] = numpy_helper.from_array(array, name)
        return self._known[key]

    def _node(self, operator, inputs, shape, dtype, held=None, **attributes):
        """A node with one output."""
        names = [self._name(value) for value in inputs]
        key = operator, *names, *((k, str(v)) for k, v in attributes.items())
        if key not in self._known:
            self._known[key] = f"v{len(self._nodes)}"
            self._nodes.append(helper.make_node(operator, names, [self._known[key]], **attributes))
        return _Value(self._known[key], shape, shape if held is None else held, dtype)

    def _elementwise(self, operator, inputs, shape, dtype, **attributes):
        held = np.ones(len(shape), object)
        for value in inputs:
            for axis, side in enumerate(reversed(value.held), 1):
                held[-axis] = held[-axis] if isinstance(side, int) and side == 1 else side
        return self._node(operator, inputs, shape, dtype, held, **attributes)

    def _full(self, value):
        """The value with all axes copied out."""
        if value.held == value.shape:
            return value
        if value.array is not None and _known_sides(value.shape):
            return _constant(np.broadcast_to(value.array, value.shape))
        sides = self._shape(value.shape)
        return self._node("Expand", [value, sides], value.shape, value.dtype)

    def _shape(self, shape):
        """A shape as a tensor."""
        if _known_sides(shape):
            return _constant(np.array(shape, np.int64))
        assert not _known_sides(shape[:1]) and _known_sides(shape[1:]), shape
        parts = [self._batch(), _integers(shape[1:])]
        return self._node("Concat", parts, (len(shape),), np.int64, axis=0)

    def _batch(self):
        """The length of the batch, as a tensor (1,)."""
        first = _Value(self._batch_input, (), (), np.float32)
        return self._node("Shape", [first], (1,), np.int64, start=0, end=1)

    def _reshape(self, value, shape):
        value = self._full(value)
        if value.shape == tuple(shape):
            return value
        if value.array is not None:
            return _constant(value.array.reshape(shape))
        sides = [side if isinstance(side, int) else -1 for side in shape]
        return self._node("Reshape", [value, _integers(sides)], shape, value.dtype)

    def _transpose(self, value, order):
        value = self._full(value)
        if tuple(order) == tuple(range(len(order))):
            return value
        if order == _NHWC_TO_NCHW and value.name in self._first:
            return self._first[value.name]
        if value.array is not None:
            return _constant(value.array.transpose(order))
        shape = [value.shape[axis] for axis in order]
        result = self._node("Transpose", [value], shape, value.dtype, perm=list(order))
        if order == _NCHW_TO_NHWC:
            self._first[result.name] = value
        return result

    def _sources(self, values):
        """The same pictures with channels first, if all were so before; else None."""
        found = [self._first.get(v.name) if v.held == v.shape else None for v in values]
        return None if None in found else found

    def _channels_first(self, operator, value, more, shape, **attributes):
        """An operator on pictures, whose results have a shape with channels last."""
        first = self._transpose(value, _NHWC_TO_NCHW)
        shape = [shape[axis] for axis in _NHWC_TO_NCHW]
        result = self._node(operator, [first, *more], shape, value.dtype, **attributes)
        return self._transpose(result, _NCHW_TO_NHWC)

    # Operations.

    def _results(self, eqn, inputs):
        """The values of an operation."""
        name, params = eqn.primitive.name, eqn.params
        outs = [variable.aval for variable in eqn.outvars]
        if name in ("jit", "pjit", "custom_jvp_call", "custom_vjp_call"):
            if params.get("name") in ("leaky_relu", "group_norm"):
                return [getattr(self, f"_do_{params['name']}")(*inputs)]
            inner = params.get("jaxpr") or params["call_jaxpr"]
            return self.run(inner.jaxpr, inner.consts, inputs)
        if all(value.array is not None for value in inputs):
            if folded := _folded(eqn, inputs):
                return folded
        if name == "unstack":
            axis = params["axis"]
            x = self._full(inputs[0])
            return [
                self._node("Gather", [x, _constant(np.int64(k))], out.shape, out.dtype, axis=axis)
                for k, out in enumerate(outs)
            ]
        (out,) = outs
        if name in _ELEMENTWISE:
            rule = self._add_or_div if name in ("add", "div") else self._elementwise
            return [rule(_ELEMENTWISE[name], inputs, out.shape, out.dtype)]
        if name in _REDUCTIONS:
            return [self._reduced(name, inputs[0], tuple(params["axes"]))]
        rule = getattr(self, f"_do_{name}", None)
        if rule is None:
            raise UserError(
                f"the model needs {name!r}, which the export to ONNX does not know; "
                "--format=stablehlo exports any model"
            )
        return [rule(*inputs, out=out, **params)]

    def _add_or_div(self, operator, inputs, shape, dtype):
        """Add or Div, unless it is the bias of a convolution or the division of a mean."""
        x, other = inputs
        if operator == "Div" and x.name in self._reductions and other.array is not None:
            operation, of, axes, keep = self._reductions[x.name]
            count = math.prod(of.shape[axis] for axis in axes)
            whole = operation == "reduce_sum" and x.held == x.shape
            if whole and other.array.size == 1 and other.array == count:
                return self._reduced("mean", of, axes, keep)
        if operator == "Add" and x.name in self._convolutions and other.array is not None:
            if other.array.size == other.held[-1] == shape[-1]:
                return self._convolution(*self._convolutions[x.name], bias=other.array.ravel())
        if sources := self._sources(inputs):
            y = self._node(operator, sources, sources[0].shape, dtype)
            return self._transpose(y, _NCHW_TO_NHWC)
        return self._elementwise(operator, inputs, shape, dtype)

    def _reduced(self, operation, x, axes, keep=False):
        """A sum, mean, maximum or minimum, with or without the axes that are reduced."""
        shape = [1 if axis in axes else side for axis, side in enumerate(x.shape)]
        if not keep:
            shape = [side for axis, side in enumerate(x.shape) if axis not in axes]
        if x.name in self._blocks and axes == (2, 4) and operation == "mean" and not keep:
            window = {"kernel_shape": [2, 2], "strides": [2, 2]}
            return self._channels_first("AveragePool", self._blocks[x.name], [], shape, **window)
        inputs = [self._full(x), _integers(axes)]
        operator = _REDUCTIONS[operation]
        result = self._node(operator, inputs, shape, x.dtype, keepdims=int(keep))
        self._reductions[result.name] = operation, x, axes, keep
        return result

    def _convolution(self, x, kernel, attributes, shape, bias=None):
        """A convolution with a kernel (features, C, k, k)."""
        more = [_constant(kernel)] + ([] if bias is None else [_constant(bias)])
        result = self._channels_first("Conv", x, more, shape, **attributes)
        if bias is None:
            self._convolutions[result.name] = x, kernel, attributes, shape
        return result

    def _do_leaky_relu(self, x, slope):
        alpha = float(slope.array)
        if source := self._sources([x]):
            (first,) = source
            y = self._node("LeakyRelu", [first], first.shape, x.dtype, alpha=alpha)
            return self._transpose(y, _NCHW_TO_NHWC)
        return self._node("LeakyRelu", [x], x.shape, x.dtype, x.held, alpha=alpha)

    def _do_group_norm(self, x, scale, bias, epsilon):
        _, groups, width = scale.shape
        first = self._transpose(x, _NHWC_TO_NCHW)
        b, channels, height, columns = first.shape
        rows = self._reshape(first, (b, groups, width * height * columns))
        one, zero = (_constant(np.full(groups, value, x.dtype)) for value in (1, 0))
        eps = {"epsilon": float(epsilon.array)}
        y = self._node("InstanceNormalization", [rows, one, zero], rows.shape, x.dtype, **eps)
        y = self._reshape(y, first.shape)
        for operator, value in (("Mul", scale), ("Add", bias)):
            value = self._reshape(value, (channels, 1, 1))
            y = self._node(operator, [y, value], first.shape, x.dtype)
        return self._transpose(y, _NCHW_TO_NHWC)

    def _do_conv_general_dilated(self, x, kernel, *, out, dimension_numbers, **params):
        numbers = dimension_numbers
        plain = (
            kernel.array is not None
            and numbers.lhs_spec == numbers.out_spec == _NHWC_TO_NCHW
            and set(params["lhs_dilation"]) == {params["feature_group_count"]} == {1}
            and params["batch_group_count"] == 1
        )
        if not plain:
            raise UserError("the model needs a convolution that the export to ONNX does not know")
        (top, bottom), (left, right) = params["padding"]
        attributes = {
            "strides": list(params["window_strides"]),
            "dilations": list(params["rhs_dilation"]),
            "pads": [top, left, bottom, right],
        }
        weights = kernel.array.transpose(numbers.rhs_spec)
        return self._convolution(x, weights, attributes, out.shape)

    def _do_reduce_window_max(self, x, *, out, window_dimensions, window_strides, padding, **_):
        (low_y, high_y), (low_x, high_x) = padding[1:3]
        window = {
            "kernel_shape": list(window_dimensions[1:3]),
            "strides": list(window_strides[1:3]),
            "pads": [low_y, low_x, high_y, high_x],
        }
        return self._channels_first("MaxPool", x, [], out.shape, **window)

    def _do_dot_general(self, a, b, *, out, dimension_numbers, **_):
        (in_a, in_b), (batch_a, batch_b) = dimension_numbers
        if len(a.shape) == 4 and b.array is not None and (in_a, in_b) == ((3,), (0,)):
            # A product over the channels of a picture is a convolution.
            weights = self._full(b).array.T[:, :, None, None]
            return self._convolution(a, weights, {}, out.shape)
        free_a = [axis for axis in range(len(a.shape)) if axis not in (*in_a, *batch_a)]
        free_b = [axis for axis in range(len(b.shape)) if axis not in (*in_b, *batch_b)]
        rows = [a.shape[axis] for axis in batch_a]
        inner = math.prod(a.shape[axis] for axis in in_a)
        a = self._transpose(a, [*batch_a, *free_a, *in_a])
        b = self._transpose(b, [*batch_b, *in_b, *free_b])
        if not batch_a and len(in_a) == len(free_b) == 1 and len(a.shape) > 1:
            return self._node("MatMul", [a, b], out.shape, out.dtype)
        left = math.prod(a.shape[len(rows) : len(rows) + len(free_a)])
        right = math.prod(b.shape[len(rows) + len(in_b) :])
        a = self._reshape(a, (*rows, left, inner))
        b = self._reshape(b, (*rows, inner, right))
        product = self._node("MatMul", [a, b], (*rows, left, right), out.dtype)
        return self._reshape(product, out.shape)

    def _do_broadcast_in_dim(self, x, *, out, broadcast_dimensions, **_):
        held = [1] * len(out.shape)
        for axis, target in enumerate(broadcast_dimensions):
            held[target] = x.held[axis]
        if x.array is not None:
            return _Value("", out.shape, held, x.dtype, x.array.reshape(held))
        if sum(side == 1 for side in held) == len(held) - len(x.held) == 0:
            return _Value(x.name, out.shape, held, x.dtype)
        if x.name in self._reductions:
            operation, of, axes, _ = self._reductions[x.name]
            kept = [1 if axis in axes else side for axis, side in enumerate(of.shape)]
            if kept == held:
                whole = self._reduced(operation, of, axes, keep=True)
                return _Value(whole.name, out.shape, held, x.dtype)
        compact = _Value(x.name, x.held, x.held, x.dtype)
        compact = self._reshape(compact, held)
        return _Value(compact.name, out.shape, held, x.dtype)

    def _do_reshape(self, x, *, out, **_):
        b, *sides = out.shape
        if x.array is None and len(out.shape) == 4 and len(x.shape) == 6:
            h, w, c = x.shape[1], x.shape[3], x.shape[5]
            if x.held == (b, h, 1, w, 1, c) and x.shape == (b, h, 2, w, 2, c):
                small = self._reshape(_Value(x.name, x.held, x.held, x.dtype), (b, h, w, c))
                scales = _constant(np.array([1, 1, 2, 2], np.float32))
                more = [_Value("", (), (), np.float32), scales]
                mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
                return self._channels_first(
                    "Resize", small, more, out.shape, nearest_mode="floor", **mode
                )
        result = self._reshape(x, out.shape)
        if len(x.shape) == 4 and len(out.shape) == 6:
            h, two_rows, w, two_columns, c = sides
            if (two_rows, two_columns) == (2, 2) and x.shape == (b, 2 * h, 2 * w, c):
                self._blocks[result.name] = x
        return result

    def _do_transpose(self, x, *, out, permutation, **_):
        return self._transpose(x, permutation)

    def _do_squeeze(self, x, *, out, **_):
        return self._reshape(x, out.shape)

    def _do_concatenate(self, *inputs, out, dimension, **_):
        if (sources := self._sources(inputs)) and dimension == 3:
            shape = [out.shape[axis] for axis in _NHWC_TO_NCHW]
            y = self._node("Concat", sources, shape, out.dtype, axis=1)
            return self._transpose(y, _NCHW_TO_NHWC)
        parts = [self._full(value) for value in inputs]
        return self._node("Concat", parts, out.shape, out.dtype, axis=dimension)

    def _do_stack(self, *inputs, out, axis, **_):
        shape = (*out.shape[:axis], 1, *out.shape[axis + 1 :])
        parts = [self._reshape(value, shape) for value in inputs]
        return self._node("Concat", parts, out.shape, out.dtype, axis=axis)

    def _do_slice(self, x, *, out, start_indices, limit_indices, strides, **_):
        axes = [k for k, (a, b) in enumerate(zip(x.shape, out.shape, strict=True)) if a != b]
        x = self._full(x)
        strides = strides or [1] * len(x.shape)
        more = [[of[axis] for axis in axes] for of in (start_indices, limit_indices)]
        more += [axes, [strides[axis] for axis in axes]]
        return self._node("Slice", [x, *map(_integers, more)], out.shape, out.dtype)

    def _do_dynamic_update_slice(self, x, update, *starts, out):
        axes = [k for k, (a, b) in enumerate(zip(x.shape, update.shape, strict=True)) if a != b]
        if len(axes) > 1 or any(start.array is None for start in starts):
            raise UserError("the model needs an update at a place that is not known in advance")
        if not axes:
            return update
        (axis,) = axes
        start = int(np.clip(starts[axis].array, 0, x.shape[axis] - update.shape[axis]))
        parts = [(0, start), (start + update.shape[axis], x.shape[axis])]
        x, update = self._full(x), self._full(update)
        before, after = (
            self._node("Slice", [x, *map(_integers, ([a], [b], [axis]))], (), x.dtype)
            for a, b in parts
        )
        return self._node("Concat", [before, update, after], out.shape, out.dtype, axis=axis)

    def _do_gather(self, x, indices, *, out, dimension_numbers, slice_sizes, mode, **_):
        numbers, x = dimension_numbers, self._full(x)
        if mode != jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS:
            raise UserError("the model needs a gather that checks its indices, which is not known")
        if indices.array is not None and indices.array.ndim == 1:  # a slice
            starts = indices.array.tolist()
            axes = list(numbers.start_index_map)
            ends = [start + slice_sizes[axis] for start, axis in zip(starts, axes, strict=True)]
            more = map(_integers, (starts, ends, axes))
            part = self._node("Slice", [x, *more], slice_sizes, out.dtype)
            return self._reshape(part, out.shape)
        width = x.shape[-1]
        of_rows = (
            numbers.operand_batching_dims == numbers.start_indices_batching_dims == (0,)
            and numbers.start_index_map == numbers.collapsed_slice_dims == (1,)
            and tuple(slice_sizes) == (1, 1, width)
        )
        if not of_rows:
            raise UserError("the model needs a gather that the export to ONNX does not know")
        indices = self._full(indices)
        indices = self._node("Cast", [indices], indices.shape, np.int64, to=onnx.TensorProto.INT64)
        return self._node("GatherND", [x, indices], out.shape, out.dtype, batch_dims=1)

    def _do_convert_element_type(self, x, *, out, **_):
        if x.dtype == out.dtype:
            return x
        to = helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype))
        return self._node("Cast", [x], x.shape, out.dtype, x.held, to=to)

    def _do_dim_as_value(self, *, out, **_):
        to = helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype))
        size = self._reshape(self._batch(), ())
        return self._node("Cast", [size], out.shape, out.dtype, to=to)

    def _do_select_n(self, where, no, yes, *, out):
        if where.array is not None and where.array.size == 1:
            return yes if where.array.item() else no
        if out.dtype != bool:
            return self._elementwise("Where", [where, yes, no], out.shape, out.dtype)
        # onnxruntime has no Where of truth values.
        shape, dtype = out.shape, out.dtype
        otherwise = self._elementwise("Not", [where], shape, dtype)
        chosen = self._elementwise("And", [where, yes], shape, dtype)
        other = self._elementwise("And", [otherwise, no], shape, dtype)
        return self._elementwise("Or", [chosen, other], shape, dtype)

    def _do_ne(self, a, b, *, out):
        equal = self._elementwise("Equal", [a, b], out.shape, out.dtype)
        return self._elementwise("Not", [equal], out.shape, out.dtype)

    def _do_is_finite(self, x, *, out):
        size = self._elementwise("Abs", [x], out.shape, x.dtype)
        infinity = _constant(np.array(np.inf, x.dtype))
        return self._elementwise("Less", [size, infinity], out.shape, out.dtype)

    def _do_square(self, x, *, out):
        return self._elementwise("Mul", [x, x], out.shape, out.dtype)

    def _do_integer_pow(self, x, *, out, y):
        if y == 2:
            return self._do_square(x, out=out)
        return self._elementwise("Pow", [x, _constant(np.array(y, x.dtype))], out.shape, out.dtype)

    def _do_rsqrt(self, x, *, out, **_):
        root = self._elementwise("Sqrt", [x], out.shape, out.dtype)
        return self._elementwise("Reciprocal", [root], out.shape, out.dtype)

    def _do_expm1(self, x, *, out, **_):
        return self._traced(lambda x: jnp.tanh(x / 2) * (jnp.exp(x) + 1), [x], out)

    def _do_atan2(self, y, x, *, out):
        slope = self._elementwise(
            "Div",
            [y, self._traced(lambda x: jnp.where(x == 0, 1e-30, x), [x], out)],
            out.shape,
            out.dtype,
        )
        angle = self._elementwise("Atan", [slope], out.shape, out.dtype)

        def turned(angle, y, x):
            return angle + jnp.where(x < 0, jnp.where(y < 0, -jnp.pi, jnp.pi), 0)

        return self._traced(turned, [angle, y, x], out)

    def _do_stop_gradient(self, x, *, out, **_):
        return x

    def _traced(self, function, inputs, out):
        """A function of arrays of the shape and type of a result."""
        shapes = [jax.ShapeDtypeStruct(out.shape, out.dtype)] * len(inputs)
        closed = jax.make_jaxpr(function)(*shapes)
        (result,) = self.run(closed.jaxpr, closed.consts, inputs)
        return result


def _constant(array, shape=None):
    array = np.asarray(array)
    return _Value("", array.shape if shape is None else shape, array.shape, array.dtype, array)


def _integers(values):
    return _constant(np.array(list(values), np.int64))


def _folded(eqn, inputs):
    """The values of an operation on constants; None if its shape depends on the batch."""
    if not all(_known_sides(variable.aval.shape) for variable in eqn.outvars):
        return None
    if eqn.primitive.name in ("broadcast_in_dim", "dim_as_value"):
        return None  # the one stays as small as it is, the other is the batch
    arrays = [np.broadcast_to(value.array, value.shape) for value in inputs]
    results = eqn.primitive.bind(*map(jnp.asarray, arrays), **eqn.params)
    results = results if eqn.primitive.multiple_results else [results]
    return [_constant(np.asarray(result)) for result in results]


def _known_sides(shape):
    return all(isinstance(side, int) for side in shape)


def _tensor_info(value):
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    sides = [side if isinstance(side, int) else _BATCH for side in value.shape]
    return helper.make_tensor_value_info(value.name, kind, sides)
