"""Layers of ONNX's recurrent nodes: of files of ours, and of one that another library wrote."""

import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, from_onnx, onnx_nodes, to_onnx
from tests.export.models import sequential

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    "layer",
    [
        lambda: kerasrnn.LSTM(4, name="it"),
        lambda: kerasrnn.PeepholeLSTM(4, name="it", use_bias=False),
        lambda: kerasrnn.GRU(4, name="it", return_sequences=True, go_backwards=True),
        lambda: kerasrnn.GRU(
            4, activation="relu", recurrent_activation="hard_sigmoid", reset_after=False, name="it"
        ),
        lambda: kerasrnn.SimpleRNN(4, activation=None, name="it"),
        lambda: kerasrnn.BidirectionalRNN(kerasrnn.PeepholeLSTM(4, name="it")),
    ],
    ids=["LSTM", "PeepholeLSTM", "GRU", "GRU before", "SimpleRNN", "both"],
)
def test_there_and_back(layer, tmp_path):
    """The weights come back as they were."""
    model = sequential(layer())
    to_onnx(model, tmp_path / "model.onnx", check=False)
    ((name, found),) = from_onnx(tmp_path / "model.onnx").items()
    assert "it" in name
    assert type(found) is type(model.layers[0])
    theirs = model.get_weights()
    if len(theirs) < len(found.get_weights()):  # an operator always has its biases
        theirs.insert(2, np.zeros(16, "float32"))
    for a, b in zip(found.get_weights(), theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def one_node(path, kind, gates, inputs=3, computed=False, **attributes):
    """A file of one node with random weights, as the specification has it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {
        "W": random.standard_normal((1, gates * 4, inputs)),
        "R": random.standard_normal((1, gates * 4, 4)),
        "B": random.standard_normal((1, 2 * gates * 4)),
    }
    constants = [numpy_helper.from_array(v.astype("float32"), k) for k, v in weights.items()]
    named = ["V" if computed else "W", "R", "B"]
    nodes = [helper.make_node(kind, ["x", *named], ["y"], name="n", hidden_size=4, **attributes)]
    if computed:
        nodes.insert(0, helper.make_node("Neg", ["W"], ["V"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]), path)
    return weights


def test_two_biases_become_one_where_one_is_enough(tmp_path):
    path = tmp_path / "m.onnx"
    weights = one_node(path, "LSTM", 4)
    layer = from_onnx(path)["n"]
    i, o, f, c = np.split(weights["B"][0, :16] + weights["B"][0, 16:], 4)
    np.testing.assert_allclose(layer.cell.bias, np.concatenate([i, f, c, o]), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "gates", "options", "message"),
    [
        ("LSTM", 4, {"clip": 1.0}, r"n: clip=1.0: no layer has it"),
        ("LSTM", 4, {"input_forget": 1}, r"n: input_forget=1: no layer has it"),
        ("RNN", 1, {"computed": True}, r"n: V is computed; expected constant weights"),
        ("RNN", 1, {"activations": ["ThresholdedRelu"]}, r"activation ThresholdedRelu: expected"),
        (
            "RNN",
            1,
            {"activations": ["LeakyRelu"], "activation_alpha": [0.5]},
            r"activation LeakyRelu: alpha=0.5: expected 0.2",
        ),
        (
            "LSTM",
            4,
            {"activations": ["Sigmoid", "Tanh", "Relu"]},
            "LSTM: two activations for candidate and output",
        ),
    ],
)
def test_what_no_layer_has(kind, gates, options, message, tmp_path):
    one_node(tmp_path / "m.onnx", kind, gates, **options)
    with pytest.raises(ValueError, match=message):
        from_onnx(tmp_path / "m.onnx")


def test_a_difference_is_an_error(tmp_path, monkeypatch):
    one_node(tmp_path / "m.onnx", "GRU", 3)
    monkeypatch.setattr(onnx_nodes.matrices, "fill", lambda *_: None)
    with pytest.raises(ParityError, match="the node n differs"):
        from_onnx(tmp_path / "m.onnx")
