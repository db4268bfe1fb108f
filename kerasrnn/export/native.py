"""Recurrent operators of ONNX in the place of time loops.

While a model is traced, each cell that is an ONNX operator leaves a marker, a `PyFunc`, in place
of its loop: see `Markers.run`. `Markers.rewrite` then puts the operator in the marker's place. Two
markers that read the same sequences in opposite directions become one bidirectional operator.

An operator's `sequence_lens` knows padding at the end alone. Where there is a mask, the steps that
are used are moved to the front before the operator, and its outputs back to their places after it,
so that the mask may have gaps anywhere.
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
"""In the name of a marker, which the layer's scope stands before."""


@dataclass(frozen=True)
class Marker:
    """What an operator computes, besides its inputs in the graph."""

    operator: OnnxOperator
    units: int
    reverse: bool
    has_lengths: bool
    has_states: bool
    weights: dict[str, np.ndarray]
    """W, R, B and, with peepholes, P, each without the axis of directions."""


@dataclass
class Markers:
    """The markers of one conversion."""

    known: list[Marker] = field(default_factory=list)
    _fronts: dict[tuple[int, int], tuple[Tensor, ...]] = field(default_factory=dict)

    def run(self, cell: Any, options: Options, call: Call) -> Results | None:
        """What `recurrence.loop.replaced_by` asks for."""
        operator = cell.onnx_operator if isinstance(cell, Cell) else None
        if operator is None or not operator.exists or options.training:
            return None
        x, counts, lengths = self._to_the_front(call)
        states = [] if all(map(_is_zero, call.states)) else call.states
        y, *finals = self._mark(cell, operator, options.go_backwards, x, lengths, states)
        output = finals[0]
        if lengths is not None and states:
            # Of a row without steps, the operator says zeros.
            any_used = ops.expand_dims(lengths > 0, -1)
            pairs = zip(finals, states, strict=True)
            finals = [ops.where(any_used, final, state) for final, state in pairs]
        if not options.return_sequences:
            if lengths is not None and options.zero_output_for_mask:
                last = call.mask[:, 0] if options.go_backwards else call.mask[:, -1]
                output = output * ops.expand_dims(ops.cast(last, output.dtype), -1)
            return Results(output, None, finals)
        if lengths is not None:
            y = _back(y, call.mask, counts, options)
        return Results(None, ops.flip(y, axis=1) if options.go_backwards else y, finals)

    def _to_the_front(self, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The sequences, their used steps first; for each step, how many are used up to it; all."""
        key = (id(call.sequences), id(call.mask))
        if key not in self._fronts:
            # The tensors are kept, so that no other one has their id.
            self._fronts[key] = (call.sequences, call.mask, *self._fronted(call))
        return self._fronts[key][2:]

    def _fronted(self, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x = ops.cast(call.sequences, "float32")
        if call.mask is None:
            return x, None, None
        import tensorflow as tf

        used = ops.cast(call.mask, "int32")
        # Of equal values, the one of the lower index comes first: in TensorFlow and in ONNX.
        order = tf.math.top_k(ops.cast(call.mask, "float32"), ops.shape(used)[1]).indices
        return _steps(x, order), ops.cumsum(used, axis=1), ops.sum(used, axis=1)

    def _mark(
        self,
        cell: Cell,
        operator: OnnxOperator,
        reverse: bool,
        x: Tensor,
        lengths: Tensor | None,
        states: list[Tensor],
    ) -> list[Tensor]:
        """The operator's outputs: of all steps, in the order of time, and the final states."""
        import tensorflow as tf

        marker = Marker(
            operator, cell.units, reverse, lengths is not None, bool(states), _laid_out(cell)
        )
        self.known.append(marker)
        inputs = [tf.constant(len(self.known) - 1), x, *([] if lengths is None else [lengths])]
        inputs += [ops.cast(state, "float32") for state in states]
        finals = len(cell.state_names)
        results = tf.numpy_function(_never_run, inputs, [tf.float32] * (1 + finals), name=NAME)
        batch, steps = x.shape[:2]
        shapes = [(batch, steps, cell.units), *[(batch, cell.units)] * finals]
        # Part of the graph, unlike `set_shape`, so that it is there when the graph is read again.
        results = [tf.ensure_shape(y, shape) for y, shape in zip(results, shapes, strict=True)]
        return [ops.cast(result, cell.compute_dtype) for result in results]

    def rewrite(self, graph: Graph, operations: list[Node]) -> list[Node]:
        """tf2onnx's rewriter: put nodes of ONNX in the markers' place."""
        waiting = [node for node in operations if node.type == "PyFunc" and NAME in node.name]
        while waiting:
            node = waiting.pop(0)
            twins = [node, *[other for other in waiting if self._is_twin(node, other)][:1]]
            waiting = [other for other in waiting if other not in twins]
            self._emit(graph, sorted(twins, key=lambda twin: self._marker(twin).reverse))
        return graph.get_nodes()

    def _marker(self, node: Node) -> Marker:
        return self.known[int(node.inputs[0].get_tensor_value())]

    def _is_twin(self, node: Node, other: Node) -> bool:
        """Whether both may become one bidirectional operator."""
        one, two = self._marker(node), self._marker(other)
        return (
            node.input[1] == other.input[1]
            and one.reverse != two.reverse
            and one.has_lengths == two.has_lengths
            and (not one.has_lengths or node.input[2] == other.input[2])
            and one.has_states == two.has_states
            and one.units == two.units
            and one.operator.name == two.operator.name
            and one.operator.linear_before_reset == two.operator.linear_before_reset
            and bool(one.operator.peepholes) == bool(two.operator.peepholes)
        )

    def _emit(self, graph: Graph, twins: list[Node]) -> None:
        markers = [self._marker(twin) for twin in twins]
        first, node = markers[0], twins[0]
        name = node.name
        rest = list(node.input[2:])
        x = graph.make_node("Transpose", [node.input[1]], attr={"perm": [1, 0, 2]}).output[0]
        inputs = [x]
        for key in ("W", "R", "B"):
            value = np.stack([marker.weights[key] for marker in markers])
            inputs.append(graph.make_const(f"{name}_{key}", value).output[0])
        inputs.append(rest[0] if first.has_lengths else "")
        count = 2 if first.operator.name == "LSTM" else 1
        for k in range(count if first.has_states else 0):
            of_twins = [twin.input[2 + first.has_lengths + k] for twin in twins]
            axis = graph.make_const(f"{name}_axis_{k}", np.array([0], "int64")).output[0]
            of_twins = [graph.make_node("Unsqueeze", [s, axis]).output[0] for s in of_twins]
            if len(of_twins) > 1:
                of_twins = [graph.make_node("Concat", of_twins, attr={"axis": 0}).output[0]]
            inputs += of_twins
        if first.operator.peepholes:
            inputs += [""] * (7 - len(inputs))
            value = np.stack([marker.weights["P"] for marker in markers])
            inputs.append(graph.make_const(f"{name}_P", value).output[0])
        while not inputs[-1]:
            inputs.pop()
        made = graph.make_node(
            first.operator.name,
            inputs,
            attr=_attributes(markers),
            output_count=1 + count,
            name=name.replace(NAME, first.operator.name),
        )
        self._take_place(graph, twins, made)

    def _take_place(self, graph: Graph, twins: list[Node], made: Node) -> None:
        """Give the operator's outputs the axes, and the names, that the markers' had."""
        y, *finals = made.output  # (time, directions, batch, units), (directions, batch, units)
        y = graph.make_node("Transpose", [y], attr={"perm": [1, 2, 0, 3]}).output[0]
        results = []
        for tensor in (y, *finals):
            if len(twins) == 1:
                results.append([tensor])
            else:
                split = graph.make_node(
                    "Split", [tensor], attr={"axis": 0, "num_outputs": 2}, output_count=2
                )
                results.append(split.output)
        for k, twin in enumerate(twins):
            dtypes = twin.output_dtypes
            outputs = list(twin.output)
            graph.remove_node(twin.name)
            for n, old in enumerate(outputs):
                axis = graph.make_const(f"{old}_axis".replace(":", "_"), np.array([0], "int64"))
                graph.make_node(
                    "Squeeze",
                    [results[n][k], axis.output[0]],
                    outputs=[old],
                    dtypes=[dtypes[n]],
                )


def _laid_out(cell: Cell) -> dict[str, np.ndarray]:
    """A cell's weights as the operator reads them."""
    import tensorflow as tf

    operator = cell.onnx_operator
    with tf.init_scope():
        values = {
            weight.name: keras.ops.convert_to_numpy(weight).astype("float32")
            for weight in cell.weights
        }

    def blocks(matrix: np.ndarray) -> np.ndarray:
        of_gates = dict(zip(cell.gates, np.split(matrix, len(cell.gates), axis=-1), strict=True))
        signed = [
            -of_gates[gate[1:]] if gate.startswith("-") else of_gates[gate]
            for gate in operator.gates
        ]
        return np.concatenate(signed, axis=-1)

    bias = np.zeros((2, len(operator.gates) * cell.units), "float32")
    if "bias" in values:
        both = blocks(np.atleast_2d(values["bias"]))
        bias[: len(both)] = both
    found = {
        "W": np.ascontiguousarray(blocks(values["kernel"]).T),
        "R": np.ascontiguousarray(blocks(values["recurrent_kernel"]).T),
        "B": bias.reshape(-1),
    }
    if operator.peepholes:
        found["P"] = values["peephole_kernel"][list(operator.peepholes)].reshape(-1)
    return found


def _attributes(markers: list[Marker]) -> dict[str, Any]:
    first = markers[0]
    direction = "bidirectional" if len(markers) == 2 else "reverse" if first.reverse else "forward"
    named = [ACTIVATIONS[a] for marker in markers for a in marker.operator.activations]
    attributes: dict[str, Any] = {
        "direction": direction,
        "hidden_size": first.units,
        "activations": [name for name, _, _ in named],
    }
    # In the order of the activations, of those that take one.
    for key, values in (
        ("activation_alpha", [alpha for _, alpha, _ in named if alpha is not None]),
        ("activation_beta", [beta for _, _, beta in named if beta is not None]),
    ):
        if values:
            attributes[key] = values
    if first.operator.linear_before_reset:
        attributes["linear_before_reset"] = 1
    return attributes


def _back(y: Tensor, mask: Tensor, counts: Tensor, options: Options) -> Tensor:
    """The operator's outputs at the places of their steps, in the order of time.

    At a masked step stands the output before it, in the order of reading, or zeros.
    """
    if options.go_backwards:
        at = counts - ops.cast(mask, "int32")
        begun = at < counts[:, -1:]
        at = ops.minimum(at, ops.shape(mask)[1] - 1)
    else:
        begun = counts > 0
        at = ops.maximum(counts - 1, 0)
    shown = mask if options.zero_output_for_mask else begun
    return _steps(y, at) * ops.expand_dims(ops.cast(shown, y.dtype), -1)


def _steps(x: Tensor, at: Tensor) -> Tensor:
    """`x[row, at[row, step]]`."""
    import tensorflow as tf

    return tf.gather(x, at, batch_dims=1)


def _is_zero(state: Tensor) -> bool:
    """Whether a tensor of a graph is known to hold zeros: a state that nobody gave."""
    import tensorflow as tf

    while state.op.type in ("Identity", "Cast"):
        state = state.op.inputs[0]
    value = state.op.inputs[1] if state.op.type == "Fill" else state
    value = tf.get_static_value(value)
    return value is not None and not np.any(value)


def _never_run(*_: Any) -> Any:
    raise RuntimeError("a marker is exported, not run")


def cancel_reversals(graph: Graph, operations: list[Node]) -> list[Node]:
    """tf2onnx's rewriter: a sequence that is reversed twice is left as it is.

    A layer that reads backwards reverses what the operator puts out, and a bidirectional one what
    that layer puts out.
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
