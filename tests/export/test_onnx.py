"""ONNX files: what onnxruntime computes, and with which operators."""

from collections import Counter

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import parity, to_onnx
from kerasrnn.export.signature import output_names
from tests.catalogue import BY_NAME, PARTS, VARIANTS, part_id
from tests.export.models import batches, branches, sequential
from tests.measure import passing_masks, randomize

pytestmark = pytest.mark.tensorflow

OPERATORS = {
    "SimpleRNN": "RNN",
    "LSTM": "LSTM",
    "GRU": "GRU",
    "PeepholeLSTM": "LSTM",
    "MGU": "GRU",
    "CoupledLSTM": "LSTM",
}
RECURRENT = {"RNN", "LSTM", "GRU", "DynamicQuantizeLSTM", "Loop", "Scan"}


def recurrent_nodes(path):
    """The number of recurrent nodes of each kind, in the graph and in its subgraphs."""
    import onnx

    def nodes(graph):
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                yield from nodes(attribute.g)

    return Counter(n.op_type for n in nodes(onnx.load(path).graph) if n.op_type in RECURRENT)


def assert_computes(path, model):
    """Compare with the model, with padding before and after, gaps, and fully masked rows."""
    import onnxruntime

    session, expected = onnxruntime.InferenceSession(path), parity.reference(model)
    for x in batches():
        for a, b in zip(session.run(None, {"steps": x}), expected([x]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("part", PARTS, ids=part_id)
def test_cells(part, tmp_path):
    """Each direction of a layer is one operator of ONNX, if there is one.

    Operators are tested in both directions and in one, with an output for every step and with the
    last one; loops with one or the other.
    """
    layers, counts = {}, Counter()
    for n, row in enumerate(part):
        dropout = row.with_arguments(dropout=0.3, recurrent_dropout=0.3)
        if row.name in OPERATORS:
            both = kerasrnn.Bidirectional(row.layer(5, return_sequences=True, **dropout))
            layers[row.name] = [both, row.layer(4), keras.layers.Dense(2)]
            counts[OPERATORS[row.name]] += 3
        else:
            layers[row.name] = [row.layer(4, return_sequences=bool(n % 2), **dropout)]
            linear = row.cell(4).is_linear
            counts["Scan" if linear else "Loop"] += 1
    assert_exports(branches(layers), tmp_path / "model.onnx", counts)


def test_masks_and_directions(tmp_path):
    layers = {
        str(n): [kerasrnn.LSTM(4, **options)]
        for n, options in enumerate(
            (
                {"return_sequences": True, "go_backwards": True},
                {"go_backwards": True, "zero_output_for_mask": True},
                {"return_sequences": True, "zero_output_for_mask": True},
                {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True},
                {"zero_output_for_mask": True},
            )
        )
    }
    assert_exports(branches(layers), tmp_path / "model.onnx", Counter(LSTM=len(layers)))


def assert_exports(model, path, counts):
    """onnxruntime computes the model's outputs, by their names, with so many recurrent nodes."""
    import onnxruntime

    to_onnx(model, path, check=False)
    session = onnxruntime.InferenceSession(path)
    assert [x.name for x in session.get_inputs()] == ["steps"]
    assert [y.name for y in session.get_outputs()] == output_names(model)
    assert_computes(path, model)
    # Masked steps, which repeat an output, take further scans or loops in cells without steps.
    found = recurrent_nodes(path)
    assert found >= counts
    several = ("Loop", "Scan")
    assert {k: n for k, n in found.items() if k not in several} == {
        k: n for k, n in counts.items() if k not in several
    }


def test_variants_activations_and_custom_cells(tmp_path):
    """Options are attributes of the operators.

    A loop takes their place if ONNX lacks the activation, or if a class changes the step of its
    parent.
    """

    class Halved(kerasrnn.GRUCell):
        def step(self, a, states, weights, products):
            h, _ = super().step(a, states, weights, products)
            return 0.5 * h, [0.5 * h]

    found = [(row, variant) for row, variant in VARIANTS if row.name in OPERATORS and variant]
    layers = {
        f"{row.name}_{n}": [row.layer(4, return_sequences=True, **variant)]
        for n, (row, variant) in enumerate(found)
    }
    for name in ("elu", "leaky_relu", "softplus", "softsign"):
        layers[name] = [kerasrnn.SimpleRNN(4, activation=name)]
    layers |= {"silu": [kerasrnn.GRU(4, activation="silu")], "own": [kerasrnn.RNN(Halved(4))]}
    path = tmp_path / "model.onnx"
    model = branches(layers, masked=False)
    to_onnx(model, path, check=False)
    assert_computes(path, model)
    counts = Counter(OPERATORS[row.name] for row, _ in found)
    assert recurrent_nodes(path) == counts + Counter({"RNN": 4, "Loop": 2})


def test_initial_states(tmp_path):
    """A fully masked row returns its initial states and outputs of zeros."""
    import onnxruntime

    path = tmp_path / "model.onnx"
    steps = keras.Input((None, 3), name="steps")
    starts, outputs = [], []
    for name, count in (("SimpleRNN", 1), ("LSTM", 2), ("GRU", 1)):
        layer = BY_NAME[name].layer(4, return_sequences=True, return_state=True)
        given = [keras.Input((4,), name=f"{name}_{n}") for n in range(2 * count)]
        outputs.append(
            kerasrnn.Bidirectional(layer)(keras.layers.Masking()(steps), initial_state=given)
        )
        starts += given
    model = keras.Model([steps, *starts], [y for found in outputs for y in found])
    randomize(model)
    to_onnx(model, path, check=False)
    assert recurrent_nodes(path) == {"RNN": 2, "LSTM": 2, "GRU": 2}
    session, expected = onnxruntime.InferenceSession(path), parity.reference(model)
    for x in batches():
        given = [np.full((len(x), 4), 0.1 * (n + 1), "float32") for n in range(len(starts))]
        fed = {"steps": x, **{s.name: v for s, v in zip(starts, given, strict=True)}}
        found = session.run(None, fed)
        for a, b in zip(found, expected([x, *given]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        for row in np.flatnonzero((x == 0).all(axis=(1, 2))):
            results, states = iter(found), iter(given)
            for of_layer in outputs:
                assert not next(results)[row].any()
                for _ in of_layer[1:]:
                    np.testing.assert_array_equal(next(results)[row], next(states)[row])


def test_masked_steps_are_never_read(tmp_path):
    """NaN and infinities there affect no output of an operator or a loop.

    The outputs equal those of the used steps without a mask.
    """
    import onnxruntime

    steps = keras.Input((None, 3), name="steps")
    mask = keras.Input((None,), dtype="bool", name="mask")
    rows = [BY_NAME[name] for name in ("SimpleRNN", "LSTM", "GRU", "UGRNN", "MinGRU", "LRU")]
    layers = [row.layer(4, return_sequences=True, return_state=True) for row in rows]
    outputs = [y for layer in layers for y in layer(steps, mask=mask)]
    model = keras.Model([steps, mask], outputs)
    randomize(model)
    to_onnx(model, tmp_path / "model.onnx", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((3, 6, 3)).astype("float32")
    mask = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    x[~mask] = np.nan
    x[1, 4] = np.inf
    found = session.run(None, {"steps": x, "mask": mask})
    assert not any(y[2].any() for y in found)
    reference = parity.reference(model)
    for row in range(2):
        used = reference([x[row : row + 1, mask[row]], mask[row : row + 1, mask[row]]])
        for y, right in zip(found, used, strict=True):
            of_row = y[row, mask[row]] if y.ndim == 3 else y[row]
            np.testing.assert_allclose(of_row, right[0], atol=1e-6)


def test_files_depend_neither_on_ties_nor_on_lengths(tmp_path):
    """Some runtimes ignore `sequence_lens`, or order the ties of `TopK` differently.

    Only the final cell state of an LSTM depends on `sequence_lens`.
    """
    import onnx
    import onnxruntime

    both = kerasrnn.Bidirectional(kerasrnn.LSTM(4, return_sequences=True))
    layers = [both, kerasrnn.GRU(4, return_sequences=True), kerasrnn.SimpleRNN(4)]
    model = sequential(keras.layers.Masking(), *layers)
    to_onnx(model, tmp_path / "model.onnx", check=False)
    proto = onnx.load(tmp_path / "model.onnx")
    assert "TopK" not in {node.op_type for node in proto.graph.node}
    recurrent = [node for node in proto.graph.node if node.op_type in RECURRENT]
    for node in recurrent:
        assert node.input[4]
        assert "clip" not in {attribute.name for attribute in node.attribute}
        node.input[4] = ""
    onnx.save(proto, tmp_path / "without.onnx")
    sessions = [
        onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("model", "without")
    ]
    for x in batches():
        (one,), (other,) = (session.run(None, {"steps": x}) for session in sessions)
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_layers_of_keras_are_exported_as_ours(tmp_path):
    path = tmp_path / "model.onnx"
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="steps"),
            layers.Embedding(9, 4, mask_zero=True),
            passing_masks(layers.Bidirectional(layers.GRU(5, return_sequences=True))),
            passing_masks(layers.LSTM(4, return_sequences=True)),
            passing_masks(layers.SimpleRNN(3)),
        ]
    )
    randomize(model)
    before = model.get_weights()
    assert to_onnx(model, path).difference < 1e-5
    assert recurrent_nodes(path) == {"GRU": 2, "LSTM": 1, "RNN": 1}
    assert type(model.layers[2]) is layers.LSTM
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_half_precision(tmp_path):
    """The operator computes in single precision."""
    model = sequential(kerasrnn.GRU(4, dtype="mixed_bfloat16"))
    assert to_onnx(model, tmp_path / "model.onnx", tolerance=0.05).difference < 0.05
    assert recurrent_nodes(tmp_path / "model.onnx") == {"GRU": 1}


def test_constants_that_are_no_variables(tmp_path):
    """Normalization keeps its statistics in such tensors."""
    normalization = keras.layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    model = keras.Sequential([keras.Input((None, 3)), normalization])
    assert to_onnx(model, tmp_path / "model.onnx").difference < 1e-5


def test_several_inputs_and_outputs(tmp_path):
    import onnxruntime

    steps, start = keras.Input((None, 3), name="steps"), keras.Input((4,), name="start")
    y, h = kerasrnn.GRU(4, return_sequences=True, return_state=True)(steps, initial_state=start)
    model = keras.Model(
        [steps, start],
        [keras.layers.Dense(2, name="each")(y), keras.layers.Dense(1, name="last")(h)],
    )
    random = np.random.default_rng(0)
    check = [
        [random.standard_normal((2, 5, 3)).astype("float32"), np.ones((2, 4), "float32")],
    ]
    report = to_onnx(model, tmp_path / "model.onnx", check=check)
    assert report.difference < 1e-5
    assert report.batches == 5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [x.name for x in session.get_inputs()] == ["steps", "start"]
    assert [y.name for y in session.get_outputs()] == ["each", "last"]


def test_an_operation_that_onnx_lacks(tmp_path):
    class Lengths(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.strings.length(tf.strings.as_string(x))

    with pytest.raises(ValueError, match=r"model 'm': ONNX has no operator for StringLength"):
        to_onnx(
            keras.Sequential([keras.Input((None, 3)), Lengths()], name="m"), tmp_path / "m.onnx"
        )
    assert not list(tmp_path.iterdir())
