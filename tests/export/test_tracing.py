"""Models that are traced for an export: unknown sizes, layers that cannot be serialized, names."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerasrnn
from kerasrnn.export import ParityError, to_int8, to_litert, to_onnx, to_saved_model
from kerasrnn.keras_internals import flatten_layers
from tests.export.models import sequential
from tests.export.test_onnx import recurrent_nodes
from tests.measure import op_by_op, passing_masks, randomize

pytestmark = pytest.mark.tensorflow
FORMATS = {"onnx": to_onnx, "saved_model": to_saved_model, "litert": to_litert}
SIZES = ((2, 5), (5, 2), (1, 1))  # rows, steps


def runs(model, folder):
    """The model in every format: functions from named arrays to named arrays."""
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    paths = {name: folder / name for name in FORMATS}
    for name, export in FORMATS.items():
        export(model, paths[name], check=False)
    session = onnxruntime.InferenceSession(paths["onnx"])
    outputs = [tensor.name for tensor in session.get_outputs()]
    loaded = tf.saved_model.load(str(paths["saved_model"]))
    served = loaded.signatures["serving_default"]
    specs = served.structured_input_signature[1]

    def by_tensorflow(**inputs):
        found = served(**{name: tf.cast(x, specs[name].dtype) for name, x in inputs.items()})
        return {name: y.numpy() for name, y in found.items()}

    def by_onnxruntime(**inputs):
        return dict(zip(outputs, session.run(None, inputs), strict=True))

    by_tensorflow.loaded = loaded
    by_litert = Interpreter(model_path=str(paths["litert"])).get_signature_runner()
    return {"onnx": by_onnxruntime, "saved_model": by_tensorflow, "litert": by_litert}


def halved(x):
    return 0.5 * ops.tanh(x)


class Block(layers.Layer):
    """Without a configuration, with a built-in layer inside, and not registered."""

    def __init__(self, function):
        super().__init__()
        self.inner, self.function = layers.GRU(4, return_sequences=True), function

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.function(self.inner(x))


# In ONNX, one is an operator and one is a loop.
HALF = {"mixed_float16": layers.LSTM, "bfloat16": kerasrnn.UGRNN}


def of_dtype(dtype, recurrent):
    options = {"recurrent_initializer": "glorot_uniform", "return_sequences": True}
    recurrent = passing_masks(recurrent(4, dtype=dtype, **options))
    return [layers.Masking(dtype=dtype), recurrent, layers.Dense(2, dtype=dtype)]


def branches():
    """By the name of the input, the layers of each branch, by the name of the output."""
    double = 2.0
    return {
        "left": {
            # Keras's own TimeDistributed takes the number of rows for that of steps in a graph.
            "distributed": [
                kerasrnn.LSTM(4, return_sequences=True),
                layers.TimeDistributed(layers.Dense(2)),
            ],
            "unserializable": [
                layers.Lambda(lambda x: double * x),
                Block(lambda x: x + 1),
                layers.LSTM(4, activation=halved, return_sequences=True),
                layers.SimpleRNN(3),
            ],
            "mixed_float16": of_dtype("mixed_float16", layers.LSTM),
        },
        "coarse": {"bfloat16": of_dtype("bfloat16", kerasrnn.UGRNN)},
        "images": {
            "masked": [
                layers.TimeDistributed(layers.LSTM(3)),
                layers.Masking(),
                passing_masks(layers.TimeDistributed(layers.Dense(2))),
                passing_masks(layers.GRU(2)),
            ]
        },
    }


class Gallery:
    """A model with many branches, its layers, what it outputs before the export, and its files."""

    def __init__(self, folder):
        self.folder = folder
        inputs = {
            "left": keras.Input((None, 3), name="left"),
            "right": keras.Input((None, 3), name="right"),
            "coarse": keras.Input((None, 3), name="coarse", dtype="bfloat16"),
            "images": keras.Input((None, 4, 3), name="images"),
        }
        self.shared = shared = layers.GRU(4)
        each = [shared(inputs["left"]), shared(inputs["right"])]
        outputs, self.layers = {"sum": each[0] + each[1], "each": each}, {}
        for source, found in branches().items():
            for name, of_branch in found.items():
                x, self.layers[name] = inputs[source], of_branch
                for layer in of_branch:
                    x = layer(x)
                outputs[name] = x
        self.model = keras.Model(inputs, outputs)
        for n, layer in enumerate(self.model.layers):
            randomize(layer, seed=n)  # tf2onnx merges layers that are equal
        self.before = [self.outputs(self.batch(*size)) for size in SIZES]
        self.runs = runs(self.model, folder)

    def batch(self, rows, steps):
        """The sequences differ in length; the last steps of the first are masked."""
        random = np.random.default_rng(rows)
        shapes = {
            "left": (rows, steps, 3),
            "right": (rows, steps + 1, 3),
            "coarse": (rows, steps + 2, 3),
            "images": (rows, steps + 3, 4, 3),
        }
        found = {k: random.standard_normal(v).astype("float32") for k, v in shapes.items()}
        found["left"][0, 3:] = found["coarse"][0, 3:] = 0
        rounded = ops.cast(ops.cast(found["coarse"], "bfloat16"), "float32")
        return {**found, "coarse": np.asarray(rounded)}

    def tensors(self, batch):
        return {name: ops.cast(x, self.model.input[name].dtype) for name, x in batch.items()}

    def outputs(self, batch):
        with op_by_op():
            found = self.model(self.tensors(batch))
        one, two = found.pop("each")
        found |= {"each_0": one, "each_1": two}
        return {name: np.asarray(ops.cast(y, "float32")) for name, y in found.items()}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return Gallery(tmp_path_factory.mktemp("gallery"))


def test_every_format_computes_the_models_outputs(gallery):
    for size, expected in zip(SIZES, gallery.before, strict=True):
        batch = gallery.batch(*size)
        for format, run in gallery.runs.items():
            results = run(**batch)
            assert results.keys() == expected.keys()
            for name in expected.keys() - HALF.keys():
                message = f"{format} {name}"
                np.testing.assert_allclose(
                    results[name], expected[name], atol=1e-5, err_msg=message
                )


def test_time_distributed_over_an_unknown_number_of_steps(gallery):
    below, each = gallery.layers["distributed"]
    kernel, bias = each.get_weights()
    for size, expected in zip(SIZES, gallery.before, strict=True):
        x = np.asarray(below(gallery.batch(*size)["left"])) @ kernel + bias
        np.testing.assert_allclose(expected["distributed"], x, atol=1e-5)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(gallery, dtype):
    """ONNX and LiteRT files compute in single precision, with the same weights."""
    eps = 2**-7 if dtype == "bfloat16" else 2**-10
    single = keras.Sequential([keras.Input((None, 3)), *of_dtype("float32", HALF[dtype])])
    weights = [w for layer in gallery.layers[dtype] for w in layer.get_weights()]
    single.set_weights([np.asarray(w, "float32") for w in weights])
    batch = gallery.batch(*SIZES[0])
    x = batch["coarse" if dtype == "bfloat16" else "left"]
    with op_by_op():
        expected = np.asarray(single(x))
    for format in ("onnx", "litert"):
        y = gallery.runs[format](**batch)[dtype]
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, atol=1e-5, err_msg=format)
    served = gallery.runs["saved_model"](**batch)[dtype]
    assert served.dtype.name == dtype.removeprefix("mixed_")
    for y in (served.astype("float32"), gallery.before[0][dtype]):
        assert np.abs(y - expected).max() < 2 * eps


def test_layers_become_operators_and_the_model_is_unchanged(gallery):
    """Built-in layers are operators inside layers that cannot be serialized, too."""
    assert recurrent_nodes(gallery.folder / "onnx") == {"GRU": 4, "LSTM": 3, "RNN": 1, "Loop": 2}
    assert all("call" not in vars(layer) for layer in flatten_layers(gallery.model))
    after = gallery.outputs(gallery.batch(*SIZES[0]))
    for name, y in gallery.before[0].items():
        np.testing.assert_array_equal(after[name], y)
    small = to_int8(gallery.folder / "onnx", gallery.folder / "small.onnx")
    assert small.bytes > 0


def test_dictionaries_and_nested_outputs(gallery):
    """Inputs and outputs have the names of their keys; each length is a dimension of its own."""
    import onnxruntime

    batch = gallery.batch(*SIZES[0])
    found = gallery.runs["saved_model"].loaded.serve(gallery.tensors(batch))
    np.testing.assert_allclose(found["each"][1], gallery.before[0]["each_1"], atol=1e-5)
    with op_by_op():
        one, two = (np.asarray(gallery.shared(batch[name])) for name in ("left", "right"))
    np.testing.assert_allclose(found["sum"], one + two, atol=1e-5)
    session = onnxruntime.InferenceSession(gallery.folder / "onnx")
    assert {x.name: x.shape for x in session.get_inputs()} == {
        "left": ["batch", "left_time", 3],
        "right": ["batch", "right_time", 3],
        "coarse": ["batch", "coarse_time", 3],
        "images": ["batch", "images_time", 4, 3],
    }
    with pytest.raises(ValueError, match="check: a batch with the keys 'left'; expected the str"):
        to_onnx(gallery.model, gallery.folder / "m.onnx", check=[{"left": batch["left"]}])


@pytest.mark.parametrize("export", FORMATS.values(), ids=FORMATS)
def test_a_layer_that_depends_on_unknown_sizes_is_named(export, tmp_path):
    class First(layers.Layer):
        def call(self, x):
            return x[:, : x.shape[1] or 2]

    model = sequential(layers.Dense(2), First(name="first"))
    with pytest.raises(ParityError, match=r"The layer first \(First\) computes different results"):
        export(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_an_input_that_is_an_output(tmp_path):
    """It is output twice, beside the outputs of a layer that has several."""

    class Two(layers.Layer):
        def call(self, x):
            return x + 1, ops.sum(x, axis=1)

    steps = keras.Input((None, 3), name="steps")
    model = keras.Model(steps, [steps, *Two(name="it")(steps), steps])
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    expected = {"steps_output_0": x, "it_0": x + 1, "it_1": x.sum(axis=1), "steps_output_1": x}
    for run in runs(model, tmp_path).values():
        results = run(steps=x)
        assert results.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(results[name], value, atol=1e-5)


def test_names_do_not_depend_on_other_models(tmp_path):
    """Keras numbers the tensors of all Sequential models of a process."""
    import tensorflow as tf

    def made():
        return keras.Sequential(
            [keras.Input((None, 3), name="frames"), layers.Dense(4, name="states")]
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


def test_names_that_tensorflow_does_not_allow(tmp_path):
    x = keras.Input((3,), name="höhe")
    with pytest.raises(ValueError, match="has an input named 'höhe'; TensorFlow's signatures"):
        to_saved_model(keras.Model(x, layers.Dense(2)(x)), tmp_path / "m")


def test_dimensions(tmp_path):
    """Outputs have the dimensions `batch` and `time` of the input, if these are their sizes."""
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


def test_a_fixed_batch_size(tmp_path):
    import onnxruntime
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3), name="x"), layers.LSTM(2, return_sequences=True)]
    )
    to_onnx(model, tmp_path / "m.onnx")
    to_saved_model(model, tmp_path / "m", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].shape == [2, "time", 3]
    served = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"]
    assert served.structured_input_signature[1]["x"].shape.as_list() == [2, None, 3]
