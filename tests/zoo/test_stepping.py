"""Decoding with an exported encoder and step equals the generator."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.export import to_onnx
from tests.measure import op_by_op, randomize

pytestmark = [pytest.mark.tensorflow, pytest.mark.traced]

SOURCE = np.array([[4, 2, 8, 3, 5], [7, 6, 0, 0, 0]], "int32")
START, END = 10, 9


def session(model, path):
    import onnxruntime

    assert to_onnx(model, path).difference < 1e-5
    loaded = onnxruntime.InferenceSession(path)
    names = [tensor.name for tensor in loaded.get_outputs()]
    return lambda **inputs: dict(zip(names, loaded.run(None, inputs), strict=True))


def decoded(step, found, first, steps):
    """Greedy symbols, `(batch, steps)`, and the attention of each step, or None."""
    previous, symbols, attention = first, [], []
    for _ in range(steps):
        results = step(previous=previous, **found)
        results["probabilities"][:, [0, START]] = -1  # never generated
        previous = results["probabilities"].argmax(axis=-1).astype("int32")
        symbols.append(previous)
        attention.append(results.get("attention"))
        after = {k.removesuffix("_next"): v for k, v in results.items() if k.endswith("_next")}
        found = {**found, **after}
    return np.stack(symbols, axis=1), attention


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "bahdanau", "depth": 2, "cell": "gru", "bidirectional": True},
        {"attention": "luong", "mode": "both", "cell": "gru"},
        {"attention": kerasrnn.CoverageAttention, "cell": "lstm"},
        {"mode": "every", "cell": "gru", "tied": True},
    ],
    ids=["bahdanau", "luong", "coverage", "context"],
)
def test_encoder_and_step(options, tmp_path):
    options = dict(options)
    attention = options.get("attention")
    if isinstance(attention, type):
        options["attention"] = attention(6)
    model = zoo.encoder_decoder(zoo.Tokens(9, 5), zoo.Classes(11), units=6, **options)
    randomize(model)
    encoder, step = zoo.encoder_and_step(model)
    states = [name for name in encoder.output_names if name.startswith("state_")]
    assert [x.name for x in step.inputs] == ["previous", *encoder.output_names]
    assert step.output_names == [
        "probabilities",
        *(f"{name}_next" for name in states),
        *(["attention"] if attention else []),
    ]
    encode = session(encoder, tmp_path / "encoder.onnx")
    one = session(step, tmp_path / "step.onnx")
    writer = zoo.generator(model, max_length=6, start=START, return_attention=attention is not None)
    first = np.full(2, START, "int32")
    symbols, weights = decoded(one, encode(source=SOURCE), first, 6)
    with op_by_op():
        expected = writer(SOURCE)
    np.testing.assert_array_equal(symbols, expected[0] if attention else expected)
    if attention:
        np.testing.assert_allclose(np.stack(weights, axis=1), expected[1], atol=1e-5)
    # With another number of rows.
    alone, _ = decoded(one, encode(source=SOURCE[:1]), first[:1], 6)
    np.testing.assert_array_equal(alone, symbols[:1])


@pytest.mark.parametrize("mode", ["first", "every", "state"])
def test_pictures(mode, tmp_path):
    model = zoo.one_to_many(zoo.Images((8, 8, 1), (3,), 5), zoo.Classes(11), mode, units=6)
    randomize(model)
    encoder, step = zoo.encoder_and_step(model)
    images = np.random.default_rng(0).random((2, 8, 8, 1)).astype("float32")
    found = session(encoder, tmp_path / "encoder.onnx")(source=images)
    one = session(step, tmp_path / "step.onnx")
    symbols, _ = decoded(one, found, np.full(2, START, "int32"), 5)
    writer = zoo.generator(model, max_length=5, start=START)
    with op_by_op():
        np.testing.assert_array_equal(symbols, writer(images))


def test_without_a_source(tmp_path):
    """The probabilities of each step equal those of the model for the entire sequence."""
    model = zoo.next_step(zoo.Classes(11), "lstm", units=6, depth=2)
    randomize(model)
    encoder, step = zoo.encoder_and_step(model)
    assert encoder is None
    one = session(step, tmp_path / "step.onnx")
    ids = np.array([[3, 7, 2], [4, 4, 9]], "int32")
    states = {f"state_{n}": np.zeros((2, 6), "float32") for n in range(4)}
    found = []
    for previous in ids.T:
        results = one(previous=previous, **states)
        found.append(results["probabilities"])
        states = {name: results[f"{name}_next"] for name in states}
    np.testing.assert_allclose(np.stack(found, axis=1), model(ids), atol=1e-5)


def test_frames(tmp_path):
    model = zoo.next_step(zoo.MultiLabel(5), "gru", units=4)
    randomize(model)
    _, step = zoo.encoder_and_step(model)
    one = session(step, tmp_path / "step.onnx")
    frame = np.array([[0, 1, 1, 0, 0]], "float32")
    results = one(previous=frame, state_0=np.zeros((1, 4), "float32"))
    np.testing.assert_allclose(results["probabilities"], model(frame[:, None])[:, 0], atol=1e-5)


def test_states_are_in_the_order_of_the_layers():
    """Also on JAX, which sorts the keys of a dict: state_10 before state_2."""
    model = zoo.encoder_decoder(zoo.Tokens(9, 4), zoo.Classes(6), cell="lstm", units=3, depth=6)
    randomize(model)
    encoder, step = zoo.encoder_and_step(model)
    previous = np.array([[1, 2], [3, 4]], "int32")
    expected = model([SOURCE[:2], previous])
    states = encoder(SOURCE[:2])
    assert encoder.output_names == [f"state_{n}" for n in range(12)]
    for n in range(2):  # arrays among tensors
        found, *states = step([previous[:, n], *states])
        np.testing.assert_allclose(found, expected[:, n], atol=1e-6)


def test_a_model_without_a_decoder_is_refused():
    model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)], name="judge")
    with pytest.raises(ValueError, match="model='judge': has 0 decoders; expected one"):
        zoo.encoder_and_step(model)
