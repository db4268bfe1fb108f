"""Replaces time loops by ONNX's recurrent operators.

While a model is traced, each cell with a corresponding ONNX operator leaves a marker, a `PyFunc`,
instead of its loop: see `Markers.run`. `Markers.rewrite` then replaces the marker by the operator.
Two markers that process the same sequences in opposite directions become one bidirectional
operator.

With a mask, the valid steps are moved to the front before the operator, in the layer's order, and
the outputs are moved back after it. The mask may have gaps anywhere. The operator's results on the
padding after the valid steps are never used. The operator receives `sequence_lens`, since
onnxruntime stops at the longest row, but does not depend on them: OpenVINO ignores them with
dynamic shapes. They are at least 1, since onnxruntime's `RNN`, before 1.26, returns uninitialized
memory for a row without steps. Only an `LSTM` whose final cell state is used needs them: see
`NO_CLIP`.
"""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.onnx_operator import ACTIVATIONS, OnnxOperator
from kerasrnn.recurrence.loop import Call, Options, Results

Tensor = Any
Graph = Any  # tf2onnx's
Node = Any

NAME = "RecurrentOperator"
"""Part of a marker's name, after the layer's scope."""

NO_CLIP = 3e38
"""A bound above every pre-activation, for operators that need `sequence_lens`: OpenVINO runs an
operator with clipping as a loop, and loops respect the lengths."""


@dataclass(frozen=True)
class Marker:
    """The description of an operator, without its inputs in the graph."""

    operator: OnnxOperator
    units: int
    options: Options
    has_mask: bool
    has_states: bool
    weights: dict[str, np.ndarray]
    """W, R, B and, with peepholes, P, each without the axis of directions."""


@dataclass
class Markers:
    """The markers of one conversion."""

    known: list[Marker] = field(default_factory=list)
    _fronts: dict[tuple[int, str, bool], tuple[Graph, "_Front"]] = field(default_factory=dict)

    def run(self, cell: Any, options: Options, call: Call) -> Results | None:
        """The substitute for the loop: see `recurrence.loop.replaced_by`."""
        known = isinstance(cell, Cell) and not cell.alters_step
        operator = cell.onnx_operator if known else None
        if operator is None or not operator.exists:
            return None
        if options.training or options.return_all_states:
            return None
        states = [] if all(map(_is_zero, call.states)) else call.states
        output, *finals = self._mark(cell, operator, options, call, states)
        if not options.return_sequences:
            return Results(output, None, finals)
        # The marker's outputs are in the order of time.
        return Results(None, ops.flip(output, axis=1) if options.go_backwards else output, finals)

    def _mark(
        self,
        cell: Cell,
        operator: OnnxOperator,
        options: Options,
        call: Call,
        states: list[Tensor],
    ) -> list[Tensor]:
        """A marker's outputs: the last one or all, in the order of time; and the final states."""
        import tensorflow as tf

        marker = Marker(
            operator,
            cell.units,
            options,
            call.mask is not None,
            bool(states),
            _operator_layout(cell),
        )
        self.known.append(marker)
        inputs = [tf.constant(len(self.known) - 1), ops.cast(call.sequences, "float32")]
        inputs += [] if call.mask is None else [call.mask]
        inputs += [ops.cast(state, "float32") for state in states]
        finals = len(cell.state_names)
        results = tf.numpy_function(_never_run, inputs, [tf.float32] * (1 + finals), name=NAME)
        batch, steps = call.sequences.shape[:2]
        shapes = [(batch, cell.units)] * (1 + finals)
        if options.return_sequences:
            shapes[0] = (batch, steps, cell.units)
        # Part of the graph, unlike `set_shape`, so that it is preserved when the graph is read.
        results = [tf.ensure_shape(y, shape) for y, shape in zip(results, shapes, strict=True)]
        return [ops.cast(result, cell.compute_dtype) for result in results]

    def rewrite(self, graph: Graph, operations: list[Node]) -> list[Node]:
        """A tf2onnx rewriter: replace the markers by ONNX nodes."""
        waiting = [node for node in operations if node.type == "PyFunc" and NAME in node.name]
        while waiting:
            node = waiting.pop(0)
            twins = [node, *[other for other in waiting if self._is_twin(node, other)][:1]]
            waiting = [other for other in waiting if other not in twins]
            self._emit(
                graph, sorted(twins, key=lambda twin: self._marker(twin).options.go_backwards)
            )
        return graph.get_nodes()

    def _marker(self, node: Node) -> Marker:
        return self.known[int(node.inputs[0].get_tensor_value())]

    def _is_twin(self, node: Node, other: Node) -> bool:
        """Whether both can become one bidirectional operator."""
        one, two = self._marker(node), self._marker(other)
        return (
            node.input[1] == other.input[1]
            and one.options.go_backwards != two.options.go_backwards
            # With a mask, each processes its own reordered steps.
            and not one.has_mask
            and not two.has_mask
            and one.has_states == two.has_states
            and one.units == two.units
            and one.operator.name == two.operator.name
            and one.operator.linear_before_reset == two.operator.linear_before_reset
            and one.operator.input_forget == two.operator.input_forget
            and bool(one.operator.peepholes) == bool(two.operator.peepholes)
        )

    def _emit(self, graph: Graph, twins: list[Node]) -> None:
        """Replace one or two markers by the operator and the nodes before and after it."""
        markers = [self._marker(twin) for twin in twins]
        first, node = markers[0], twins[0]
        make = _Maker(graph, node.name)
        count = 2 if first.operator.name == "LSTM" else 1
        x, front = node.input[1], None
        if first.has_mask:
            front = self._front(graph, node.input[2], first.options.go_backwards)
            x = make("GatherND", x, front.order, batch_dims=1)
        first_state = 2 + first.has_mask  # index of the first state
        states: list[list[str]] = [list(twin.input[first_state:]) for twin in twins]
        reads_c = front is not None and count == 2 and graph.find_output_consumers(node.output[2])
        inputs = [make("Transpose", x, perm=[1, 0, 2])]
        inputs += [
            make.constant(key, np.stack([marker.weights[key] for marker in markers]))
            for key in ("W", "R", "B")
        ]
        inputs.append("" if front is None else front.lengths)
        for k in range(count if first.has_states else 0):
            of_twins = [make("Unsqueeze", of_twin[k], make.axis(0)) for of_twin in states]
            inputs.append(make("Concat", *of_twins, axis=0) if len(twins) > 1 else of_twins[0])
        if first.operator.peepholes:
            inputs += [""] * (7 - len(inputs))
            inputs.append(make.constant("P", np.stack([marker.weights["P"] for marker in markers])))
        while not inputs[-1]:
            inputs.pop()
        operator = graph.make_node(
            first.operator.name,
            inputs,
            attr=_attributes(markers) | ({"clip": NO_CLIP} if reads_c else {}),
            output_count=1 + count,
            name=node.name.replace(NAME, first.operator.name),
        )
        # (time, directions, batch, units) to (directions, batch, time, units).
        y = make("Transpose", operator.output[0], perm=[1, 2, 0, 3])
        for n, (twin, marker) in enumerate(zip(twins, markers, strict=True)):
            parts = [y, *operator.output[1:]]
            if len(twins) > 1:
                at = make.constant("direction", np.array(n, "int64"))
                parts = [make("Gather", part, at, axis=0) for part in parts]
            else:
                parts = [make("Squeeze", part, make.axis(0)) for part in parts]
            if front is not None:
                given_states = states[n] or [make.constant("zero", np.float32(0))] * count
                results = _restore_order(make, marker, front, parts, given_states)
            elif marker.options.return_sequences:
                results = parts
            else:
                results = [parts[1], *parts[1:]]
            dtypes, outputs = twin.output_dtypes, list(twin.output)
            graph.remove_node(twin.name)
            for old, result, dtype in zip(outputs, results, dtypes, strict=True):
                graph.make_node("Identity", [result], outputs=[old], dtypes=[dtype])

    def _front(self, graph: Graph, mask: str, backwards: bool) -> "_Front":
        """Convert a mask, once for all layers that share it."""
        key = (id(graph), mask, backwards)
        if key not in self._fronts:
            self._fronts[key] = (graph, _Front.of(_Maker(graph, NAME), mask, backwards))
        return self._fronts[key][1]


@dataclass(frozen=True)
class _Maker:
    """Creates nodes of a graph; tensors are represented by their names."""

    graph: Graph
    name: str

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.make_node(kind, list(inputs), attr=attributes).output[0]

    def constant(self, name: str, value: Any) -> str:
        from tf2onnx.utils import make_name

        return self.graph.make_const(make_name(f"{self.name}_{name}"), np.asarray(value)).output[0]

    def axis(self, *axes: int) -> str:
        return self.constant("axes", np.array(axes, "int64"))


@dataclass(frozen=True)
class _Front:
    """Indices that reorder the steps of masked sequences. Tensors by name; indices are int64."""

    mask: str
    """`(batch, time)`"""

    any_used: str
    """`(batch, 1)`: whether any step is valid."""

    last: str
    """`(batch, 1)`: the index of the last step in the layer's order; 0 if there is none."""

    lengths: str
    """`(batch,)`, int32: the number of valid steps, at least 1."""

    order: str
    """`(batch, time, 1)`: the indices of the steps with the valid ones first, in the layer's
    order."""

    read: str
    """`(batch, time)`: the number of valid steps up to and including this one."""

    @classmethod
    def of(cls, make: _Maker, mask: str, backwards: bool) -> "_Front":
        from onnx import TensorProto, helper

        one, axis = make.constant("one", np.int64(1)), make.constant("time", np.int64(1))
        used = make("Cast", mask, to=TensorProto.INT64)
        before = make("CumSum", used, axis, exclusive=1)  # valid steps at earlier times
        number = make("ReduceSum", used, make.axis(1), keepdims=1)
        filled = helper.make_tensor("value", TensorProto.INT64, [1], [1])
        ones = make("ConstantOfShape", make("Shape", mask), value=filled)
        time = make("CumSum", ones, axis, exclusive=1)
        read = make("Sub", number, before) if backwards else make("Add", before, used)
        # A permutation, masked steps last. Sorting the mask would depend on the order of ties.
        of_used = make("Sub", read, one)
        of_masked = make("Sub", make("Add", number, time), before)
        place = make("Where", mask, of_used, of_masked)
        order = make("ScatterElements", time, place, time, axis=1)
        length = make("Max", number, one)
        return cls(
            mask=mask,
            any_used=make("Greater", number, make.constant("none", np.int64(0))),
            last=make("Sub", length, one),
            lengths=make("Cast", make("Squeeze", length, make.axis(1)), to=TensorProto.INT32),
            order=make("Unsqueeze", order, make.axis(2)),
            read=read,
        )


def _restore_order(
    make: _Maker, marker: Marker, front: _Front, parts: list[str], states: list[str]
) -> list[str]:
    """A marker's outputs, from the operator's outputs on reordered steps.

    At a masked step the output is the previous one, in the layer's order, or zeros; a row without
    valid steps has its initial states. Outputs are selected rather than multiplied by the mask,
    since masked steps may be NaN.
    """
    y, _, *others = parts
    zero = make.constant("zero", np.float32(0))
    h = make("GatherND", y, front.last, batch_dims=1)
    finals = [
        make("Where", front.any_used, final, state)
        for final, state in zip([h, *others], states, strict=True)
    ]
    options = marker.options
    if not options.return_sequences:
        shown = front.any_used
        if options.zero_output_for_mask:
            at = make.constant("last", np.array([0 if options.go_backwards else -1], "int64"))
            shown = make("Gather", front.mask, at, axis=1)
        return [make("Where", shown, h, zero), *finals]
    nothing, one = make.constant("none", np.int64(0)), make.constant("one", np.int64(1))
    at = make("Max", make("Sub", front.read, one), nothing)
    shown = front.mask
    if not options.zero_output_for_mask:
        shown = make("Greater", front.read, nothing)
    rows = make("GatherND", y, make("Unsqueeze", at, make.axis(2)), batch_dims=1)
    return [make("Where", make("Unsqueeze", shown, make.axis(2)), rows, zero), *finals]


def _operator_layout(cell: Cell) -> dict[str, np.ndarray]:
    """A cell's weights in the operator's layout."""
    import tensorflow as tf

    operator = cell.onnx_operator
    with tf.init_scope():
        values = {
            name: keras.ops.convert_to_numpy(weight).astype("float32")
            for name, weight in cell.weights_by_name().items()
        }

    def blocks(matrix: np.ndarray) -> np.ndarray:
        return np.concatenate(operator.blocks(cell.gates, matrix), axis=-1)

    bias = np.zeros((2, len(operator.gates) * cell.units), "float32")
    if "bias" in values:
        both = blocks(np.atleast_2d(values["bias"]))
        bias[: len(both)] = both
    arrays = {
        "W": np.ascontiguousarray(blocks(values["kernel"]).T),
        "R": np.ascontiguousarray(blocks(values["recurrent_kernel"]).T),
        "B": bias.reshape(-1),
    }
    if operator.peepholes:
        arrays["P"] = values["peephole_kernel"][list(operator.peepholes)].reshape(-1)
    return arrays


def _attributes(markers: list[Marker]) -> dict[str, Any]:
    first = markers[0]
    direction = "forward"
    if len(markers) == 2:
        direction = "bidirectional"
    elif first.options.go_backwards and not first.has_mask:
        direction = "reverse"
    named = [ACTIVATIONS[a] for marker in markers for a in marker.operator.activations]
    attributes: dict[str, Any] = {
        "direction": direction,
        "hidden_size": first.units,
        "activations": [name for name, _, _ in named],
    }
    # In the order of the activations that take one.
    for key, values in (
        ("activation_alpha", [alpha for _, alpha, _ in named if alpha is not None]),
        ("activation_beta", [beta for _, _, beta in named if beta is not None]),
    ):
        if values:
            attributes[key] = values
    if first.operator.linear_before_reset:
        attributes["linear_before_reset"] = 1
    if first.operator.input_forget:
        attributes["input_forget"] = 1
    return attributes


def _is_zero(state: Tensor) -> bool:
    """Whether a tensor of a graph is known to be zeros, as for a default initial state."""
    import tensorflow as tf

    while state.op.type in ("Identity", "Cast"):
        state = state.op.inputs[0]
    value = state.op.inputs[1] if state.op.type == "Fill" else state
    value = tf.get_static_value(value)
    return value is not None and not np.any(value)


def _never_run(*_: Any) -> Any:
    raise RuntimeError("a marker is exported, not run")


def cancel_reversals(graph: Graph, operations: list[Node]) -> list[Node]:
    """A tf2onnx rewriter: remove double reversals of a sequence.

    A layer with `go_backwards` reverses the operator's output, and a bidirectional layer reverses
    that layer's output.
    """
    for node in operations:
        if node.type != "ReverseV2":
            continue
        inner = node.inputs[0]
        if inner.type != "ReverseV2":
            continue
        axes = [n.inputs[1].get_tensor_value(as_list=True) for n in (node, inner)]
        if axes[0] == axes[1]:
            graph.replace_all_inputs(node.output[0], inner.input[0])
    return graph.get_nodes()


def choose_exactly(graph: Graph, operations: list[Node]) -> list[Node]:
    """A tf2onnx rewriter: selections become `Where`.

    By default, tf2onnx multiplies both sides by 1 and 0 and adds them, so that NaN or an infinity
    on the unselected side affects the result.
    """
    for node in operations:
        if node.type in ("Select", "SelectV2"):
            node.set_attr("handles_nan", True)
    return graph.get_nodes()
