"""Layers of the recurrent nodes of an ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.cells.gru import GRU
from kerasrnn.cells.layer import RNN
from kerasrnn.cells.lstm import LSTM
from kerasrnn.cells.onnx_operator import ACTIVATIONS
from kerasrnn.cells.peephole_lstm import PeepholeLSTM
from kerasrnn.cells.simple_rnn import SimpleRNN
from kerasrnn.export import matrices, parity
from kerasrnn.layers.bidirectional import BidirectionalRNN


@validation.checked
def from_onnx(path: str | Path) -> dict[str, RNN | BidirectionalRNN]:
    """The recurrent layers of an ONNX file, by the names of their nodes, with their weights.

    Every `RNN`, `LSTM` and `GRU` whose weights are constants. The layers return sequences; where
    the operator's input comes from, and what becomes of its output, is the caller's to say. The
    other way is `kerasrnn.export.to_onnx`.

    Raises:
        ParityError: a layer does not compute what its node does.
        ValueError: a node has options that no layer has: clipping, coupled gates, weights that are
            computed.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_onnx(model, f"{folder}/model.onnx")
        ...     (layer,) = kerasrnn.export.from_onnx(f"{folder}/model.onnx").values()
        >>> type(layer).__name__, layer.units
        ('GRU', 4)
    """
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(path)
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        if node.op_type in ("RNN", "LSTM", "GRU") and not node.domain:
            found[node.name or node.output[0]] = _of_node(node, constants, proto)
    return found


def _of_node(node: Any, constants: Mapping[str, np.ndarray], proto: Any) -> Any:
    from onnx import helper

    name = node.name or node.output[0]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for option, usual in (("clip", None), ("input_forget", 0), ("layout", 0)):
        if given.get(option, usual) != usual:
            raise ValueError(f"{name}: {option}={given[option]}: no layer has it.")
    names = [*node.input, *[""] * (8 - len(node.input))]
    missing = [n for n in (*names[1:4], names[7]) if n and n not in constants]
    if missing:
        raise ValueError(f"{name}: {missing[0]} is computed; expected constant weights.")
    weights = [constants.get(n) for n in (*names[1:4], names[7])]
    directions = given.get("direction", b"forward").decode()
    units = weights[1].shape[-1]
    activations = _activations(node.op_type, given, weights[0].shape[0])
    cls = {"RNN": SimpleRNN, "GRU": GRU, "LSTM": PeepholeLSTM if names[7] else LSTM}[node.op_type]
    options: dict[str, Any] = {}
    if node.op_type == "GRU":
        options["reset_after"] = bool(given.get("linear_before_reset", 0))
    halves = []
    for n, chosen in enumerate(activations):
        if node.op_type != "RNN":
            options["recurrent_activation"] = chosen[0]
        half = cls(
            units,
            activation=chosen[-1],
            use_bias=weights[2] is not None,
            return_sequences=True,
            go_backwards=directions == "reverse" or n == 1,
            **options,
        )
        half.build((None, None, weights[0].shape[-1]))
        order = half.cell.onnx_operator.gates
        values = [weights[0][n], weights[1][n]]
        if weights[2] is not None:
            values += np.split(weights[2][n], 2)
        matrices.fill(half.cell, values, order)
        if weights[3] is not None:
            rows = weights[3][n].reshape(3, units)
            at = np.argsort(half.cell.onnx_operator.peepholes)
            half.cell.peephole_kernel.assign(rows[at])
        halves.append(half)
    layer: Any = halves[0]
    if len(halves) == 2:
        if activations[0] != activations[1]:
            raise ValueError(f"{name}: the directions have different activations.")
        layer = BidirectionalRNN(halves[0])
        layer.build((None, None, weights[0].shape[-1]))
        layer.set_weights([value for half in halves for value in half.get_weights()])
    _compare_with_node(layer, node, constants, proto)
    return layer


def _activations(kind: str, given: Mapping[str, Any], directions: int) -> list[list[Any]]:
    """Keras's activations of an operator, for each direction."""
    usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[kind]
    named = [n.decode() for n in given.get("activations", [])] or usual * directions
    values = {key: list(given.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    by_name = {name: (keras_one, *rest) for keras_one, (name, *rest) in ACTIVATIONS.items()}
    found = []
    for name in named:
        if name not in by_name:
            raise ValueError(f"activation {name}: expected one of {', '.join(sorted(by_name))}.")
        function, *expected = by_name[name]
        for key, usual_value in zip(("alpha", "beta"), expected, strict=True):
            if usual_value is None or not values[key]:
                continue
            value = values[key].pop(0)
            if abs(value - usual_value) > 1e-6:
                raise ValueError(f"activation {name}: {key}={value}: expected {usual_value}.")
        found.append(function)
    each = len(usual)
    parts = [found[n : n + each] for n in range(0, len(found), each)]
    for part in parts:
        if kind == "LSTM" and part[1] is not part[2]:
            raise ValueError("LSTM: two activations for candidate and output; expected one.")
    return parts


def _compare_with_node(
    layer: Any, node: Any, constants: Mapping[str, np.ndarray], proto: Any
) -> None:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    names = [*node.input, *[""] * (8 - len(node.input))]
    alone = helper.make_node(
        node.op_type, ["x", *names[1:4], "", "", "", names[7]][: 8 if names[7] else 4], ["y"]
    )
    alone.attribute.extend(node.attribute)
    used = [n for n in (*names[1:4], names[7]) if n]
    features = matrices.features(layer)
    graph = helper.make_graph(
        [alone],
        "alone",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constants[n], n) for n in used],
    )
    model = helper.make_model(
        graph, opset_imports=proto.opset_import, ir_version=min(proto.ir_version, 10)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = matrices.random_sequences(features)
    (y,) = session.run(None, {"x": x.swapaxes(0, 1)})  # (time, directions, batch, units)
    y = np.concatenate(list(y.transpose(1, 2, 0, 3)), axis=-1)
    ours = keras.ops.convert_to_numpy(layer(x))
    if getattr(layer, "go_backwards", False):
        y = y[:, ::-1]
    difference = float(np.abs(ours - y).max())
    parity.check_difference(difference, matrices.TOLERANCE, f"the node {node.name}")
