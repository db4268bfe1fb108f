"""Replaces linear recurrences by ONNX's `Scan`.

While a model is traced, a linear cell computes the coefficients and outputs of all steps as usual,
and leaves a marker, a `PyFunc`, instead of the recurrence between them. `Scans.rewrite` then
replaces the marker by a `Scan` whose body has one multiplication and one addition, or those of
complex numbers. It is faster than a `Loop`, whose body indexes its sequences at each step. At a
masked step the coefficients are 1 and 0.
"""

from types import SimpleNamespace
from typing import Any

from keras import ops

from kerasrnn.recurrence.linear import LinearUnroll
from kerasrnn.recurrence.loop import Call, Options, Results, primitives
from kerasrnn.recurrence.ways import way_of

Tensor = Any
Graph = Any  # tf2onnx's
Node = Any

NAME = "LinearRecurrence"
"""Part of a marker's name, after the layer's scope."""


class Scans:
    """The linear recurrences of one conversion."""

    def run(self, cell: Any, options: Options, call: Call) -> Results | None:
        """The substitute for the loop: see `recurrence.loop.replaced_by`."""
        if options.training or way_of(cell, options) is not LinearUnroll:
            return None
        backend = SimpleNamespace(**vars(primitives()))
        # As if in parallel: masks become coefficients.
        backend.scans_in_parallel, backend.segment_rows = lambda: True, lambda *_: None
        return _MarkedUnroll(backend, cell, options, call).forward()

    def rewrite(self, graph: Graph, operations: list[Node]) -> list[Node]:
        """A tf2onnx rewriter: replace the markers by `Scan`."""
        for node in operations:
            if node.type == "PyFunc" and NAME in node.name:
                _emit(graph, node)
        return graph.get_nodes()


class _MarkedUnroll(LinearUnroll):
    """One call of the loop with a marker in place of each recurrence."""

    def _prefixes(
        self, factors: list[Tensor], updates: list[Tensor], start: list[Tensor]
    ) -> list[Tensor]:
        import tensorflow as tf

        name = f"Complex{NAME}" if self._is_complex(factors) else NAME
        inputs = [ops.cast(x, "float32") for x in (*start, *factors, *updates)]
        states = tf.numpy_function(_never_run, inputs, [tf.float32] * len(start), name=name)
        return [
            ops.cast(tf.ensure_shape(s, u.shape), u.dtype)
            for s, u in zip(states, updates, strict=True)
        ]


def _emit(graph: Graph, node: Node) -> None:
    from onnx import TensorProto

    count = len(node.output)
    inputs, ranks = list(node.input), [len(graph.get_shape(s)) for s in node.input[:count]]
    body = graph.create_new_graph_with_same_config()
    body.parent_graph = graph
    names = [
        f"{node.name}_{kind}_{n}" for kind in ("state", "decay", "update") for n in range(count)
    ]
    for name, rank in zip(names, ranks * 3, strict=True):
        body.add_graph_input(name, TensorProto.FLOAT, [-1] * rank)
    states, decays, updates = names[:count], names[count : 2 * count], names[2 * count :]

    def make(kind: str, *inputs: str) -> str:
        return body.make_node(kind, list(inputs), dtypes=[TensorProto.FLOAT]).output[0]

    if f"Complex{NAME}" in node.name:
        (s_r, s_i), (d_r, d_i) = states, decays
        decayed = [
            make("Sub", make("Mul", d_r, s_r), make("Mul", d_i, s_i)),
            make("Add", make("Mul", d_r, s_i), make("Mul", d_i, s_r)),
        ]
    else:
        decayed = [make("Mul", d, s) for d, s in zip(decays, states, strict=True)]
    new = [make("Add", d, u) for d, u in zip(decayed, updates, strict=True)]
    for name, rank in zip([*new, *(make("Identity", s) for s in new)], ranks * 2, strict=True):
        body.add_graph_output(name, TensorProto.FLOAT, [-1] * rank)
    outputs = list(node.output)
    shapes = [graph.get_shape(output) for output in outputs]
    graph.remove_node(node.name)
    scan = graph.make_node(
        "Scan",
        inputs,
        attr={"num_scan_inputs": 2 * count},
        output_count=2 * count,
        branches={"body": body},
        name=node.name.replace(NAME, "Scan"),
        dtypes=[TensorProto.FLOAT] * (2 * count),
    )
    for old, result, shape in zip(outputs, scan.output[count:], shapes, strict=True):
        graph.make_node(
            "Identity", [result], outputs=[old], dtypes=[TensorProto.FLOAT], shapes=[shape]
        )


def _never_run(*_: Any) -> Any:
    raise RuntimeError("a marker is exported, not run")
