"""Models that are exported as they are: nothing of them is serialized, sizes are unknown."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerasrnn
from kerasrnn.export import ParityError, to_int8, to_litert, to_onnx, to_saved_model
from kerasrnn.keras_internals import flatten_layers
from tests.export.models import sequential
from tests.export.test_onnx import recurrent_nodes
from tests.measure import passing_masks, randomize

pytestmark = pytest.mark.tensorflow
FORMATS = {"onnx": to_onnx, "saved_model": to_saved_model, "litert": to_litert}
SIZES = ((2, 5), (5, 2), (1, 1))  # rows, steps


def runs(model, folder, **options):
    """The model in every format: functions from named arrays to named arrays."""
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    paths = {name: folder / name for name in FORMATS}
    for name, export in FORMATS.items():
        export(model, paths[name], **options)
    session = onnxruntime.InferenceSession(paths["onnx"])
    outputs = [tensor.name for tensor in session.get_outputs()]
    served = tf.saved_model.load(str(paths["saved_model"])).signatures["serving_default"]

    def by_tensorflow(**inputs):
        return {k: y.numpy() for k, y in served(**{k: x[:] for k, x in inputs.items()}).items()}

    def by_onnxruntime(**inputs):
        return dict(zip(outputs, session.run(None, inputs), strict=True))

    by_litert = Interpreter(model_path=str(paths["litert"])).get_signature_runner()
    return {"onnx": by_onnxruntime, "saved_model": by_tensorflow, "litert": by_litert}


def dense(x, layer):
    kernel, bias = layer.get_weights()
    return x @ kernel + bias


def test_time_distributed_over_an_unknown_number_of_steps(tmp_path):
    """Keras's own takes the number of rows for the number of steps in a graph."""
    inner = layers.Dense(2)
    model = sequential(
        kerasrnn.LSTM(4, return_sequences=True, name="below"),
        layers.TimeDistributed(inner, name="each"),
    )
    found = runs(model, tmp_path)
    for rows, steps in SIZES:
        x = np.random.default_rng(0).standard_normal((rows, steps, 3)).astype("float32")
        expected = dense(np.asarray(model.get_layer("below")(x)), inner)
        assert expected.shape == (rows, steps, 2)
        for run in found.values():
            np.testing.assert_allclose(run(steps=x)["each"], expected, atol=1e-5)


def test_time_distributed_masks_and_layers_of_axes(tmp_path):
    """The mask passes it; a convolution sees one step at a time; a recurrent layer inside."""
    model = sequential(
        layers.TimeDistributed(layers.LSTM(3)),
        layers.Masking(),
        passing_masks(layers.TimeDistributed(layers.Dense(2))),
        passing_masks(layers.GRU(2)),
        shape=(None, 4, 3),
    )
    assert to_onnx(model, tmp_path / "m.onnx").difference < 1e-5
    assert recurrent_nodes(tmp_path / "m.onnx") == {"LSTM": 1, "GRU": 1}


@pytest.mark.parametrize("export", FORMATS.values(), ids=FORMATS)
def test_a_layer_that_depends_on_unknown_sizes_is_named(export, tmp_path):
    class First(layers.Layer):
        def call(self, x):
            return x[:, : x.shape[1] or 2]

    model = sequential(layers.Dense(2), First(name="first"))
    with pytest.raises(ParityError, match=r"The layer first \(First\) computes different results"):
        export(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def halved(x):
    return 0.5 * ops.tanh(x)


class Block(layers.Layer):
    """Without a configuration, with a built-in layer inside, registered nowhere."""

    def __init__(self, function):
        super().__init__()
        self.inner, self.function = layers.GRU(4, return_sequences=True), function

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.function(self.inner(x))


def test_what_cannot_be_serialized(tmp_path):
    """A Lambda, a function and a layer that nobody registered; the built-in layers beside and
    inside of them become operators, and the model stays as it was."""
    double = 2.0
    model = sequential(
        layers.Lambda(lambda x: double * x),
        Block(lambda x: x + 1),
        layers.LSTM(4, activation=halved, return_sequences=True),
        layers.SimpleRNN(3, name="scores"),
    )
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    before = np.asarray(model(x))
    found = runs(model, tmp_path)
    assert recurrent_nodes(tmp_path / "onnx") == {"GRU": 1, "RNN": 1, "Loop": 1}
    for run in found.values():
        np.testing.assert_allclose(run(steps=x)["scores"], before, atol=1e-5)
    assert all("call" not in vars(layer) for layer in flatten_layers(model))
    np.testing.assert_array_equal(model(x), before)
    small = to_int8(tmp_path / "onnx", tmp_path / "small.onnx")
    assert small.bytes > 0


def test_dictionaries_and_nested_outputs(tmp_path):
    """By the inputs' names and the outputs' keys; lengths differ, and so do their dimensions."""
    import onnxruntime
    import tensorflow as tf

    left, right = keras.Input((None, 3), name="left"), keras.Input((None, 3), name="right")
    shared = layers.GRU(4)
    model = keras.Model(
        {"left": left, "right": right},
        {"sum": shared(left) + shared(right), "each": [shared(left), shared(right)]},
    )
    randomize(model)
    random = np.random.default_rng(0)
    given = {
        k: random.standard_normal((2, n, 3)).astype("float32")
        for k, n in (("left", 4), ("right", 6))
    }
    found = runs(model, tmp_path, check=[given])
    one, two = (np.asarray(shared(x)) for x in given.values())
    expected = {"sum": one + two, "each_0": one, "each_1": two}
    for run in found.values():
        results = run(**given)
        assert results.keys() == expected.keys()
        for name, y in results.items():
            np.testing.assert_allclose(y, expected[name], atol=1e-5)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    np.testing.assert_allclose(served.serve(given)["each"][1], two, atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "onnx")
    assert {x.name: x.shape for x in session.get_inputs()} == {
        "left": ["batch", "left_time", 3],
        "right": ["batch", "right_time", 3],
    }
    with pytest.raises(ValueError, match="check: a batch with the keys 'left'; expected the str"):
        to_onnx(model, tmp_path / "m.onnx", check=[{"left": given["left"]}])


def test_an_input_that_is_an_output(tmp_path):
    """Twice, beside outputs of a layer that has several."""
    steps = keras.Input((None, 3), name="steps")
    y, h = layers.GRU(4, return_sequences=True, return_state=True, name="it")(steps)
    model = keras.Model(steps, [steps, y, h, steps])
    found = runs(model, tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    y, h = (np.asarray(tensor) for tensor in model.get_layer("it")(x))
    expected = {"steps_output_0": x, "it_0": y, "it_1": h, "steps_output_1": x}
    for run in found.values():
        results = run(steps=x)
        assert results.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(results[name], value, atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_half_precision(dtype, tmp_path):
    """Beside the same weights in single precision, to two units in the last place."""
    eps = 2**-7 if dtype == "bfloat16" else 2**-10
    options = {"dtype": dtype, "recurrent_initializer": "glorot_uniform"}
    floats = "float32" if dtype.startswith("mixed") else dtype

    def made(**options):
        return keras.Sequential(
            [
                keras.Input((None, 3), dtype=floats if options else None, name="steps"),
                layers.Masking(dtype=options.get("dtype")),
                passing_masks(layers.LSTM(4, return_sequences=True, **options)),
                kerasrnn.UGRNN(4, return_sequences=True, **options),
                layers.Dense(2, dtype=options.get("dtype"), name="scores"),
            ]
        )

    model, single = made(**options), made()
    single.set_weights([np.asarray(w, "float32") for w in model.get_weights()])
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    x = np.asarray(ops.cast(ops.cast(x, floats), "float32"))
    expected = np.asarray(single(x))
    found = runs(model, tmp_path)
    found.pop("saved_model")  # it has the model's own types: compared by the export
    for run in found.values():
        y = run(steps=x)["scores"]
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, atol=1e-5)
    assert np.abs(np.asarray(model(x), "float32") - expected).max() < 2 * eps


def test_names_do_not_depend_on_what_else_was_made(tmp_path):
    """A Sequential model's tensors are numbered through the program; its layers have names."""
    import tensorflow as tf

    def made():
        return keras.Sequential(
            [keras.Input((None, 3), name="frames"), layers.LSTM(4, name="states")]
        )

    signatures = []
    for n in range(2):
        to_saved_model(made(), tmp_path / str(n), check=False)
        (served,) = tf.saved_model.load(str(tmp_path / str(n))).signatures.values()
        signatures.append((served.structured_input_signature[1], served.structured_outputs))
        made()
    assert signatures[0] == signatures[1]
    inputs, outputs = signatures[0]
    assert (list(inputs), list(outputs)) == (["frames"], ["states"])


def test_names_that_tensorflow_cannot_have(tmp_path):
    x = keras.Input((3,), name="höhe")
    with pytest.raises(ValueError, match="has an input named 'höhe'; TensorFlow's signatures"):
        to_saved_model(keras.Model(x, layers.Dense(2)(x)), tmp_path / "m")


def test_dimensions(tmp_path):
    """`batch` and `time` where an output's size is the input's, whatever that is."""
    import onnxruntime

    x = keras.Input((None, 3), name="x")
    y = layers.LSTM(2, return_sequences=True, name="y")(x)
    pairs = layers.AveragePooling1D(2, name="pairs")(y)
    last = layers.GRU(2, name="last")(pairs)
    to_onnx(keras.Model(x, [y, pairs, last]), tmp_path / "m.onnx", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    shapes = {t.name: t.shape for t in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "x": ["batch", "time", 3],
        "y": ["batch", "time", 2],
        "pairs": ["batch", "pairs_axis_1", 2],
        "last": ["batch", 2],
    }


def test_a_batch_size_that_is_fixed_stays_fixed(tmp_path):
    import onnxruntime
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3), name="x"), layers.LSTM(2, return_sequences=True)]
    )
    to_onnx(model, tmp_path / "m.onnx")
    to_saved_model(model, tmp_path / "m")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].shape == [2, "time", 3]
    served = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"]
    assert served.structured_input_signature[1]["x"].shape.as_list() == [2, None, 3]
