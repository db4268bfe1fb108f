"""Layers from the recurrent nodes of an ONNX file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.cells.coupled_lstm import CoupledLSTM
from kerasrnn.cells.gru import GRU
from kerasrnn.cells.lstm import LSTM
from kerasrnn.cells.onnx_operator import ACTIVATIONS, SYMMETRIC
from kerasrnn.cells.peephole_lstm import PeepholeLSTM
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.simple_rnn import SimpleRNN
from kerasrnn.export import matrices, onnx_files, parity
from kerasrnn.export.native import NO_CLIP
from kerasrnn.layers.bidirectional import Bidirectional

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
MOVES = {
    "Cast",
    "Expand",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
}
"""Operators whose output consists only of values of their first input."""

# Default parameters of activations; None if ONNX defines no default.
DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "Affine": (None, None),
    "Elu": (1.0, None),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, None),
}


@validation.checked
def from_onnx(path: str | Path) -> dict[str, RNN | Bidirectional]:
    """Create the recurrent layers of an ONNX file, with their weights.

    Every `RNN`, `LSTM` and `GRU` is converted, also in functions and in the bodies of `If`, `Loop`
    and `Scan`, if its weights are constants or computed only from constants (by `Identity`,
    `Transpose` or `DequantizeLinear`). The layers return sequences; with `go_backwards`, the
    outputs are in the order of computation. The caller passes what a node receives at run time: its
    input, its lengths as `mask`, its states as `initial_state`. The inverse is
    `kerasrnn.export.to_onnx`.

    Args:
        path: an ONNX file; weights in separate files are read too.

    Returns:
        The layers by the names of their nodes, in the order of the file. A node without a name is
        named after its first output; if a name is taken, a number is appended.

    Raises:
        FileNotFoundError: the file does not exist.
        ParityError: a layer's results differ from its node's.
        ValueError: it is not an ONNX file; a node has something that layers do not support:
            clipping, coupled gates with peepholes, computed weights, or constant lengths or nonzero
            states; or it is a recurrent operator of another domain, such as a quantized one.
        ModuleNotFoundError: a package from the extra `onnx` is not installed.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_onnx(model, f"{folder}/model.onnx")
        ...     (layer,) = kerasrnn.export.from_onnx(f"{folder}/model.onnx").values()
        >>> type(layer).__name__, layer.units
        ('GRU', 4)
    """
    for package in ("onnx", "onnxruntime"):
        parity.require(package, "onnx")
    from onnx import inliner

    proto = onnx_files.opened("path", Path(path))
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    opset = next(entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    layers: dict[str, RNN | Bidirectional] = {}
    for node, scope in _recurrent_nodes(proto.graph, _Scope(proto.graph, opset)):
        name = own = node.name or next(filter(None, node.output))
        number = 0
        while name in layers:
            number += 1
            name = f"{own}_{number}"
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"{name}: {node.op_type} of the domain {node.domain!r}: no layer supports it; "
                f"expected ONNX's own {', '.join(GATES)}."
            )
        layers[name] = _of_node(name, node, scope)
    return layers


@dataclass
class _Scope:
    """The names available to the nodes of a graph, and the values of constants."""

    graph: Any
    opset: Any
    outer: "_Scope | None" = None
    _initializers: dict[str, Any] = field(init=False)
    _producers: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._producers = {name: node for node in self.graph.node for name in node.output if name}

    def _owner(self, name: str) -> "_Scope | None":
        """The scope that defines a name: an inner scope hides outer ones."""
        inputs = {tensor.name for tensor in self.graph.input}
        if name in self._initializers or name in self._producers or name in inputs:
            return self
        return self.outer._owner(name) if self.outer is not None else None

    def producer(self, name: str) -> tuple[Any, "_Scope"] | None:
        """The node that computes a name, and its scope."""
        owner = self._owner(name)
        if owner is None or name in owner._initializers or name not in owner._producers:
            return None
        return owner._producers[name], owner

    def constant(self, name: str) -> np.ndarray | None:
        """A value that does not depend on the graph's inputs; otherwise None."""
        from onnx import numpy_helper

        owner = self._owner(name)
        if owner is not None and name in owner._initializers:
            return numpy_helper.to_array(owner._initializers[name])
        producer = self.producer(name)
        if producer is None:
            return None
        node, scope = producer
        inner = any(a.HasField("g") or a.graphs for a in node.attribute)
        if inner or node.op_type.startswith(("Random", "Multinomial", "Bernoulli")):
            return None
        values = {x: scope.constant(x) for x in node.input if x}
        if any(value is None for value in values.values()):
            return None
        return _computed(node, values, name, self.opset)

    def is_zeros(self, name: str) -> bool | None:
        """Whether a value is all zeros, of any shape; None if it depends on the inputs."""
        value = self.constant(name)
        if value is not None:
            return not np.any(value)
        producer = self.producer(name)
        if producer is None:
            return None
        node, scope = producer
        if node.op_type == "ConstantOfShape":
            from onnx import numpy_helper

            return not any(np.any(numpy_helper.to_array(a.t)) for a in node.attribute)
        if node.op_type == "Concat":
            parts = {scope.is_zeros(x) for x in node.input}
            return None if None in parts else parts == {True}
        return scope.is_zeros(node.input[0]) if node.op_type in MOVES else None


def _computed(node: Any, values: Mapping[str, np.ndarray], name: str, opset: Any) -> np.ndarray:
    """Compute the output of a node with constant inputs."""
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [node],
        "constants",
        [],
        [helper.make_empty_tensor_value_info(name)],
        [numpy_helper.from_array(value, key) for key, value in values.items()],
    )
    return _session(graph, [opset]).run([name], {})[0]


def _session(graph: Any, opsets: Any) -> Any:
    import onnxruntime
    from onnx import helper

    # The newest IR supported by every onnxruntime version that the extra allows.
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _recurrent_nodes(graph: Any, scope: _Scope) -> Iterator[tuple[Any, _Scope]]:
    """The recurrent nodes of a graph and of the graphs inside its nodes."""
    for node in graph.node:
        # onnxruntime's own operators have such names: DynamicQuantizeLSTM, AttnLSTM.
        own = node.domain == "com.microsoft" and node.op_type.endswith(tuple(GATES))
        if node.op_type in GATES or own:
            yield node, scope
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _recurrent_nodes(inner, _Scope(inner, scope.opset, scope))


def _of_node(name: str, node: Any, scope: _Scope) -> Any:
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if not np.float32(attributes.get("clip", NO_CLIP)) >= np.float32(NO_CLIP):
        # A bound of 0 gives zeros by the standard, no bound in OpenVINO, an error in onnxruntime.
        raise ValueError(
            f"{name}: clip={attributes['clip']}: layers do not support it; expected none, or a "
            f"bound of at least {NO_CLIP:g}, which no value exceeds."
        )
    inputs = dict(zip(INPUTS, [*node.input, *[""] * len(INPUTS)], strict=False))
    weights = _weights(name, node.op_type, inputs, attributes, scope)
    _check_states(name, inputs, scope)
    dirs, units = weights["R"].shape[0], weights["R"].shape[-1]
    features = weights["W"].shape[-1]
    activations = _activations(name, node.op_type, attributes, dirs)
    if len(activations) == 2 and activations[0] != activations[1]:
        raise ValueError(
            f"{name}: the directions have different activations; expected the same ones."
        )
    cls = {"RNN": SimpleRNN, "GRU": GRU, "LSTM": PeepholeLSTM if "P" in weights else LSTM}
    if attributes.get("input_forget", 0):
        if "P" in weights or activations[0][0] not in SYMMETRIC:
            raise ValueError(
                f"{name}: input_forget={attributes['input_forget']}: layers support it without "
                "peepholes, with sigmoid or hard sigmoid gates."
            )
        cls["LSTM"] = CoupledLSTM
    options: dict[str, Any] = {}
    if node.op_type == "GRU":
        options["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    halves = []
    for n, chosen in enumerate(activations):
        if node.op_type != "RNN":
            options["recurrent_activation"] = chosen[0]
        half = cls[node.op_type](
            units,
            activation=chosen[-1],
            use_bias="B" in weights,
            return_sequences=True,
            go_backwards=attributes.get("direction") == b"reverse" or n == 1,
            **options,
        )
        half.build((None, None, features))
        values = [weights["W"][n], weights["R"][n]]
        if "B" in weights:
            values += np.split(weights["B"][n], 2)
        operator = half.cell.onnx_operator
        # A coupled gate has the weights of the input gate, whatever is in its own block.
        order = [None if operator.input_forget and g == "f" else g for g in operator.gates]
        matrices.fill(half.cell, values, order)
        if "P" in weights:
            rows = weights["P"][n].reshape(3, units)
            at = np.argsort(operator.peepholes)
            half.cell.peephole_kernel.assign(rows[at])
        halves.append(half)
    layer: Any = halves[0]
    if len(halves) == 2:
        layer = Bidirectional(halves[0])
        layer.build((None, None, features))
        layer.set_weights([value for half in halves for value in half.get_weights()])
    _compare_with_node(name, layer, node, weights)
    return layer


def _weights(
    name: str, kind: str, inputs: Mapping[str, str], attributes: Mapping[str, Any], scope: _Scope
) -> dict[str, np.ndarray]:
    """W and R, and B and P where the node has them, in single precision."""
    weights = {}
    for key in ("W", "R", "B", "P"):
        if not inputs[key]:
            continue
        value = scope.constant(inputs[key])
        if value is None:
            raise ValueError(f"{name}: {inputs[key]} is not a constant; expected constant weights.")
        weights[key] = np.asarray(value).astype("float32")
    for key in ("W", "R"):
        if key not in weights or weights[key].ndim != 3:
            raise ValueError(
                f"{name}: {key} has the shape {np.shape(weights.get(key))}; expected three axes."
            )
    direction = attributes.get("direction", b"forward").decode()
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(
            f"{name}: direction={direction!r}: expected forward, reverse or bidirectional."
        )
    dirs = 2 if direction == "bidirectional" else 1
    units = attributes.get("hidden_size", weights["R"].shape[-1])
    gates, features = GATES[kind], weights["W"].shape[-1]
    shapes = {
        "W": (dirs, gates * units, features),
        "R": (dirs, gates * units, units),
        "B": (dirs, 2 * gates * units),
        "P": (dirs, 3 * units),
    }
    for key, value in weights.items():
        if value.shape != shapes[key]:
            raise ValueError(f"{name}: {key} has the shape {value.shape}; expected {shapes[key]}.")
    return weights


def _check_states(name: str, inputs: Mapping[str, str], scope: _Scope) -> None:
    """Raise ValueError for constant lengths or initial states, which layers cannot store."""
    lengths = inputs["sequence_lens"]
    if lengths and scope.constant(lengths) is not None:
        raise ValueError(
            f"{name}: sequence_lens={scope.constant(lengths).tolist()}: layers do not store "
            "lengths; expected none, or computed lengths, for the caller to pass as a mask."
        )
    for key in ("initial_h", "initial_c"):
        if inputs[key] and scope.is_zeros(inputs[key]) is False:
            raise ValueError(
                f"{name}: {key} is a nonzero constant: layers do not store an initial state; "
                "expected none, zeros, or a state that is computed, for the caller to pass as "
                "`initial_state`."
            )


def _activations(
    name: str, kind: str, attributes: Mapping[str, Any], directions: int
) -> list[list[Any]]:
    """Keras's activations of an operator, for each direction."""
    usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[kind]
    named = [n.decode() for n in attributes.get("activations", [])] or usual * directions
    if len(named) != len(usual) * directions:
        raise ValueError(
            f"{name}: activations={named}: expected {len(usual) * directions}, {len(usual)} for "
            "each direction."
        )
    # Parameters of the activations that take one, in order.
    values = {key: list(attributes.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    by_name = {
        known.lower(): (known, keras_one, rest) for keras_one, (known, *rest) in ACTIVATIONS.items()
    }
    functions = []
    for activation in named:
        if activation.lower() not in by_name:
            known = ", ".join(sorted(known for known, *_ in by_name.values()))
            raise ValueError(f"{name}: activation {activation}: expected one of {known}.")
        known, function, expected = by_name[activation.lower()]
        defaults = DEFAULTS.get(known, (None, None))
        for key, wanted, default in zip(("alpha", "beta"), expected, defaults, strict=True):
            if wanted is None:
                continue
            value = values[key].pop(0) if values[key] else default
            if value is None or abs(value - wanted) > 1e-6:
                raise ValueError(
                    f"{name}: activation {activation}: {key}={value}: expected {wanted:.6g}."
                )
        functions.append(function)
    each = len(usual)
    parts = [functions[n : n + each] for n in range(0, len(functions), each)]
    for part in parts:
        if kind == "LSTM" and part[1] is not part[2]:
            raise ValueError(f"{name}: two activations for candidate and output; expected one.")
    return parts


def _compare_with_node(name: str, layer: Any, node: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Raise ParityError unless the layer agrees with the node on random sequences."""
    from onnx import TensorProto, helper, numpy_helper

    single = helper.make_node(
        node.op_type, ["x", *(key if key in weights else "" for key in INPUTS[1:])], ["y"]
    )
    while not single.input[-1]:
        single.input.pop()
    # The layer has no equivalent of old files' `output_sequence`, or of the order of axes.
    left = ("output_sequence", "layout", "hidden_size")
    single.attribute.extend(a for a in node.attribute if a.name not in left)
    single.attribute.append(helper.make_attribute("hidden_size", weights["R"].shape[-1]))
    features = matrices.features(layer)
    graph = helper.make_graph(
        [single],
        "alone",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    session = _session(graph, [helper.make_opsetid("", 14)])
    x = matrices.random_sequences(features)
    (y,) = session.run(None, {"x": x.swapaxes(0, 1)})  # (time, directions, batch, units)
    y = np.concatenate(list(y.transpose(1, 2, 0, 3)), axis=-1)
    ours = keras.ops.convert_to_numpy(layer(x))
    if getattr(layer, "go_backwards", False):
        y = y[:, ::-1]
    difference = float(np.abs(ours - y).max())
    parity.check_difference(difference, matrices.TOLERANCE, f"the node {name}")
