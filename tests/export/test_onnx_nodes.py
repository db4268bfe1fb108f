"""Layers with the weights of ONNX's recurrent nodes, of our own files and of others."""

import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, from_onnx, onnx_nodes, to_onnx
from tests.export.models import branches
from tests.measure import op_by_op

pytestmark = pytest.mark.tensorflow


def test_there_and_back(tmp_path):
    """Exporting and reading a layer gives its weights."""
    layers = [
        kerasrnn.LSTM(4, name="lstm"),
        kerasrnn.PeepholeLSTM(4, name="peepholes", use_bias=False),
        kerasrnn.CoupledLSTM(4, name="coupled"),
        kerasrnn.GRU(4, name="gru", return_sequences=True, go_backwards=True),
        kerasrnn.GRU(
            4,
            activation="relu",
            recurrent_activation="hard_sigmoid",
            reset_after=False,
            name="before",
        ),
        kerasrnn.SimpleRNN(4, activation=None, name="simple"),
        # The size differs, since equal operators would be merged.
        kerasrnn.Bidirectional(kerasrnn.PeepholeLSTM(3, name="directions"), name="both"),
    ]
    model = branches({layer.name: [layer] for layer in layers}, masked=False)
    to_onnx(model, tmp_path / "model.onnx", check=False)
    with op_by_op():
        found = from_onnx(tmp_path / "model.onnx")
    assert len(found) == len(layers)
    for layer in layers:
        (back,) = (other for name, other in found.items() if layer.name in name)
        assert type(back) is type(layer)
        weights = layer.get_weights()
        if len(weights) < len(back.get_weights()):  # an operator always has biases
            weights.insert(2, np.zeros(16, "float32"))
        for a, b in zip(back.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def weights(kind, directions=1, seed=0):
    """Random W, R and B, in the order of the specification, for 3 features and 4 units."""
    random, rows = np.random.default_rng(seed), GATES[kind] * 4
    shapes = {"W": (rows, 3), "R": (rows, 4), "B": (2 * rows,)}
    return {
        key: random.standard_normal((directions, *shape)).astype("float32")
        for key, shape in shapes.items()
    }


def node(kind, inputs=("x", "W", "R", "B"), outputs=("y",), name="n", **attributes):
    from onnx import helper

    return helper.make_node(
        kind, list(inputs), list(outputs), name=name, **{"hidden_size": 4} | attributes
    )


def saved(path, nodes, constants, outputs=("y",), inputs=(), domain="", functions=(), others=()):
    """Write a file with the input `x`, `(time, batch, 3)`, and other inputs, if any."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    known = [("x", TensorProto.FLOAT, [None, None, 3]), *inputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*one) for one in known],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, 17), *(helper.make_opsetid(d, 1) for d in others)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    onnx.save(model, path)
    return path


def computed(path, **inputs):
    """Random sequences, and onnxruntime's outputs for them, batch first."""
    import onnxruntime

    x = np.random.default_rng(1).standard_normal((2, 5, 3)).astype("float32")
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {"x": x.swapaxes(0, 1), **inputs})
    # (time, directions, batch, units)
    return x, [np.concatenate(list(y.transpose(1, 2, 0, 3)), axis=-1) for y in found]


def one_node(path, kind, computed=False, **attributes):
    """Write a file of one node with random weights."""
    from onnx import helper

    values = weights(kind)
    nodes = [node(kind, ("x", "V" if computed else "W", "R", "B"), **attributes)]
    if computed:
        nodes.insert(0, helper.make_node("Add", ["W", "offset"], ["V"]))
        scalar = ("offset", helper.TensorProto.FLOAT, [])
        saved(path, nodes, values, inputs=[scalar])
    else:
        saved(path, nodes, values)
    return values


@op_by_op()
def test_two_biases_become_one(tmp_path):
    path = tmp_path / "m.onnx"
    values = one_node(path, "LSTM")
    layer = from_onnx(path)["n"]
    i, o, f, c = np.split(values["B"][0, :16] + values["B"][0, 16:], 4)
    np.testing.assert_allclose(layer.cell.bias, np.concatenate([i, f, c, o]), rtol=1e-6)


def states(zeros, shape=(1, 2, 4)):
    return np.full(shape, 0.0 if zeros else 0.5, "float32")


@op_by_op()
@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("LSTM", {"clip": 1.0}, r"n: clip=1.0: layers do not support it"),
        (
            "LSTM",
            {"clip": 0.0},
            r"n: clip=0.0: layers do not support it; expected none, or a bound of",
        ),
        (
            "LSTM",
            {"input_forget": 1, "activations": ["Tanh", "Tanh", "Tanh"]},
            r"n: input_forget=1: layers support it without peepholes, with sigmoid",
        ),
        ("RNN", {"computed": True}, r"n: V is not a constant; expected constant weights"),
        ("RNN", {"activations": ["ThresholdedRelu"]}, r"n: activation ThresholdedRelu: expected"),
        (
            "RNN",
            {"activations": ["LeakyRelu"], "activation_alpha": [0.5]},
            r"n: activation LeakyRelu: alpha=0.5: expected 0.2",
        ),
        ("RNN", {"activations": ["LeakyRelu"]}, r"LeakyRelu: alpha=0.01: expected 0.2"),
        (
            "GRU",
            {"activations": ["HardSigmoid", "Tanh"]},
            r"HardSigmoid: alpha=0.2: expected 0.166667",
        ),
        ("GRU", {"activations": ["Sigmoid"]}, r"n: activations=\['Sigmoid'\]: expected 2"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}, "n: two activations for candidate"),
        ("GRU", {"hidden_size": 5}, r"n: W has the shape \(1, 12, 3\); expected \(1, 15, 3\)"),
        ("GRU", {"direction": "bidirectional"}, r"n: W has the shape .*; expected \(2, 12, 3\)"),
    ],
)
def test_attributes_that_layers_lack(kind, options, message, tmp_path):
    one_node(tmp_path / "m.onnx", kind, **options)
    with pytest.raises(ValueError, match=message):
        from_onnx(tmp_path / "m.onnx")


@op_by_op()
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"initial_h": states(False)}, "n: initial_h is a nonzero constant"),
        ({"initial_c": states(False)}, "n: initial_c is a nonzero constant"),
        (
            {"sequence_lens": np.array([5, 2], "int32")},
            r"n: sequence_lens=\[5, 2\]: layers do not store",
        ),
    ],
    ids=["initial_h", "initial_c", "sequence_lens"],
)
def test_constant_states_and_lengths_are_refused(extra, message, tmp_path):
    """Layers do not store them, so that the outputs would differ."""
    named = [key if key in extra else "" for key in ("sequence_lens", "initial_h", "initial_c")]
    nodes = [node("LSTM", ("x", "W", "R", "B", *named))]
    path = saved(tmp_path / "m.onnx", nodes, weights("LSTM") | extra)
    with pytest.raises(ValueError, match=message):
        from_onnx(path)


def states_for_the_batch(path, value):
    """An LSTM whose h is a number, expanded as in PyTorch's exports, and whose c is zeros."""
    from onnx import helper

    nodes = [
        helper.make_node("Shape", ["x"], ["size"], start=1, end=2),
        helper.make_node("Concat", ["one", "size", "units"], ["shape"], axis=0),
        helper.make_node("Expand", ["value", "shape"], ["h"]),
        node("LSTM", ("x", "W", "R", "B", "", "h", "c")),
    ]
    one, units = np.array([1]), np.array([4])
    constants = {"value": np.float32(value), "one": one, "units": units, "c": states(True)}
    return saved(path, nodes, weights("LSTM") | constants)


@op_by_op()
def test_an_expanded_learned_state_is_refused(tmp_path):
    path = states_for_the_batch(tmp_path / "m.onnx", 0.5)
    with pytest.raises(ValueError, match="n: initial_h is a nonzero constant"):
        from_onnx(path)


@op_by_op()
def test_states_of_zeros(tmp_path):
    """As a constant, and expanded to the batch."""
    path = states_for_the_batch(tmp_path / "m.onnx", 0)
    x, (y,) = computed(path)
    np.testing.assert_allclose(from_onnx(path)["n"](x), y, atol=1e-6)


@op_by_op()
def test_lengths_and_states_that_are_inputs(tmp_path):
    """As a mask and as `initial_state`, they give the outputs of the node."""
    from onnx import TensorProto

    inputs = [("lens", TensorProto.INT32, [2]), ("h", TensorProto.FLOAT, [1, 2, 4])]
    nodes = [node("GRU", ("x", "W", "R", "B", "lens", "h"), linear_before_reset=1)]
    path = saved(tmp_path / "m.onnx", nodes, weights("GRU"), inputs=inputs)
    lens, h = np.array([5, 3], "int32"), states(False)
    x, (y,) = computed(path, lens=lens, h=h)
    layer, mask = from_onnx(path)["n"], np.arange(5) < lens[:, None]
    np.testing.assert_allclose(
        np.asarray(layer(x, initial_state=[h[0]], mask=mask))[mask], y[mask], atol=1e-6
    )


@op_by_op()
def test_an_explicit_domain(tmp_path):
    kept = node("GRU")
    kept.domain = "ai.onnx"
    path = saved(tmp_path / "m.onnx", [kept], weights("GRU"), domain="ai.onnx")
    x, (y,) = computed(path)
    np.testing.assert_allclose(from_onnx(path)["n"](x), y, atol=1e-6)


@op_by_op()
def test_recurrent_operators_of_other_domains_are_refused(tmp_path):
    other = node("DynamicQuantizeLSTM", name="small")
    other.domain = "com.microsoft"
    path = saved(tmp_path / "m.onnx", [other], weights("LSTM"), others=["com.microsoft"])
    with pytest.raises(ValueError, match="small: DynamicQuantizeLSTM of the domain"):
        from_onnx(path)


@op_by_op()
@pytest.mark.parametrize("names", [("n", "n"), ("", ""), ("b", "")], ids=str)
def test_every_node_has_a_key(names, tmp_path):
    """Nodes with equal names, without names, and with a first output named as another node."""
    one, two = weights("GRU"), weights("GRU", seed=2)
    nodes = [
        node("GRU", ("x", "W", "R", "B"), ("a",), names[0]),
        node("GRU", ("x", "W2", "R2", "B2"), ("b",), names[1]),
    ]
    constants = one | {f"{key}2": value for key, value in two.items()}
    layers = from_onnx(saved(tmp_path / "m.onnx", nodes, constants, ("a", "b")))
    expected = {("n", "n"): ["n", "n_1"], ("", ""): ["a", "b"], ("b", ""): ["b", "b_1"]}
    assert list(layers) == expected[names]
    nodes[1].name = "other"  # onnxruntime runs no two nodes of one name
    x, found = computed(saved(tmp_path / "m.onnx", nodes, constants, ("a", "b")))
    for layer, y in zip(layers.values(), found, strict=True):
        np.testing.assert_allclose(layer(x), y, atol=1e-6)


@op_by_op()
def test_nodes_inside_of_nodes(tmp_path):
    """In both branches of an `If`, with weights inside, outside, and hidden by inner ones."""
    from onnx import TensorProto, helper, numpy_helper

    inner = weights("GRU", seed=2)

    def branch(name, constants):
        return helper.make_graph(
            [node("GRU", name=name)],
            name,
            [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(v, k) for k, v in constants.items()],
        )

    choice = helper.make_node(
        "If",
        ["which"],
        ["result"],
        then_branch=branch("then", {}),
        else_branch=branch("else", {"W": inner["W"], "R": inner["R"]}),
    )
    path = saved(
        tmp_path / "m.onnx",
        [choice],
        weights("GRU"),
        outputs=("result",),
        inputs=[("which", TensorProto.BOOL, [])],
    )
    layers = from_onnx(path)
    assert sorted(layers) == ["else", "then"]
    # On its own: onnxruntime does not run a GRU whose weights are outside.
    for name, values in (("then", weights("GRU")), ("else", weights("GRU") | _two(inner))):
        x, (y,) = computed(saved(tmp_path / "alone.onnx", [node("GRU")], values))
        np.testing.assert_allclose(layers[name](x), y, atol=1e-6)


def _two(values):
    return {key: values[key] for key in ("W", "R")}


@op_by_op()
def test_nodes_inside_of_functions(tmp_path):
    from onnx import helper

    function = helper.make_function(
        "mine",
        "Block",
        ["x", "W", "R", "B"],
        ["y"],
        [node("RNN", name="inside")],
        [helper.make_opsetid("", 17)],
    )
    call = helper.make_node("Block", ["x", "W", "R", "B"], ["y"], name="call", domain="mine")
    path = saved(tmp_path / "m.onnx", [call], weights("RNN"), functions=[function], others=["mine"])
    (layer,) = from_onnx(path).values()
    x, (y,) = computed(path)
    np.testing.assert_allclose(layer(x), y, atol=1e-6)


@op_by_op()
def test_weights_computed_from_constants(tmp_path):
    """By Constant, Identity, Transpose, DequantizeLinear and Cast."""
    from onnx import TensorProto, helper, numpy_helper

    values = weights("LSTM", directions=2)
    scale = np.float32(np.abs(values["R"]).max() / 127)
    small = np.rint(values["R"] / scale).astype("int8")
    nodes = [
        helper.make_node("Constant", [], ["W0"], value=numpy_helper.from_array(values["W"])),
        helper.make_node("Identity", ["W0"], ["W"]),
        helper.make_node("DequantizeLinear", ["small", "scale"], ["R"]),
        helper.make_node("Transpose", ["turned"], ["half"], perm=[1, 0]),
        helper.make_node("Cast", ["half"], ["B"], to=TensorProto.FLOAT),
        node("LSTM", direction="bidirectional"),
    ]
    constants = {"small": small, "scale": scale, "turned": values["B"].T.astype("float16")}
    path = saved(tmp_path / "m.onnx", nodes, constants)
    layer = from_onnx(path)["n"]
    assert type(layer) is kerasrnn.Bidirectional
    x, (y,) = computed(path)
    np.testing.assert_allclose(layer(x), y, atol=1e-6)


@op_by_op()
def test_a_node_without_its_size(tmp_path):
    silent = node("LSTM")
    del silent.attribute[:]
    assert from_onnx(saved(tmp_path / "m.onnx", [silent], weights("LSTM")))["n"].units == 4


@op_by_op()
@pytest.mark.parametrize(
    ("inputs", "changed", "message"),
    [
        (("x", "W"), {}, r"n: R has the shape \(\); expected three axes"),
        (("x", "W", "R"), {"W": np.ones((12, 3))}, r"n: W has the shape \(12, 3\); expected three"),
        (("x", "W", "R", "B"), {"B": np.ones((1, 12))}, r"n: B .* \(1, 12\); expected \(1, 24\)"),
    ],
)
def test_weights_of_other_shapes(inputs, changed, message, tmp_path):
    path = saved(tmp_path / "m.onnx", [node("GRU", inputs)], weights("GRU") | changed)
    with pytest.raises(ValueError, match=message):
        from_onnx(path)


@op_by_op()
def test_batch_major_axes(tmp_path):
    """With `layout=1`, which onnxruntime does not support, the weights are the same."""
    for n, layout in enumerate((0, 1)):
        saved(tmp_path / f"{n}.onnx", [node("GRU", layout=layout)], weights("GRU"))
    one, two = (from_onnx(tmp_path / f"{n}.onnx")["n"] for n in range(2))
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@op_by_op()
def test_weights_in_a_separate_file(tmp_path):
    import onnx

    values = one_node(tmp_path / "m.onnx", "GRU")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.save(
        proto, tmp_path / "big.onnx", save_as_external_data=True, location="big", size_threshold=0
    )
    layer = from_onnx(tmp_path / "big.onnx")["n"]
    np.testing.assert_array_equal(layer.cell.kernel, values["W"][0].T)
    (tmp_path / "big").unlink()
    with pytest.raises(ValueError, match=r"big\.onnx'?: cannot be read as an ONNX file"):
        from_onnx(tmp_path / "big.onnx")


@op_by_op()
def test_damaged_files(tmp_path):
    """An empty file, a part of one, a text, a folder, no file."""
    one_node(tmp_path / "m.onnx", "GRU")
    whole = (tmp_path / "m.onnx").read_bytes()
    pieces = [whole[: len(whole) * n // 16] for n in range(16)]
    for content in (*pieces, b"no model", bytes(100)):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=r"path='.*bad\.onnx': "):
            from_onnx(tmp_path / "bad.onnx")
    with pytest.raises(ValueError, match="is not a file"):
        from_onnx(tmp_path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")


@op_by_op()
def test_a_difference_is_an_error(tmp_path, monkeypatch):
    one_node(tmp_path / "m.onnx", "GRU")
    monkeypatch.setattr(onnx_nodes.matrices, "fill", lambda *_: None)
    with pytest.raises(ParityError, match="the node n differs"):
        from_onnx(tmp_path / "m.onnx")
