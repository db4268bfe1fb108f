"""The inputs of the zoo: their encodings, several inputs of one model, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn import zoo
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.layers.joining import JoinedSteps
from tests import numpy_models
from tests.catalogue import variant_id
from tests.measure import passing_masks
from tests.zoo.models import assert_exports, assert_saves


def encoded(inputs, x, steps):
    source = inputs.input("x", steps=steps)
    return keras.Model(source, inputs.encode(source, steps=steps)), x


@pytest.mark.parametrize("steps", [False, True])
def test_vectors_are_standardized(steps):
    x = np.random.default_rng(0).normal(size=(2, 5, 3) if steps else (2, 3)).astype("float32")
    inputs = zoo.Vectors(3, mean=[1, 2, 3], std=2.0)
    model, x = encoded(inputs, x, steps)
    np.testing.assert_allclose(model(x), (x - [1, 2, 3]) / 2, atol=1e-6)
    model, x = encoded(zoo.Vectors(3, mean=0.5), x, steps)
    np.testing.assert_allclose(model(x), x - 0.5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_reads_vectors_in_full_precision(policy):
    """In bfloat16 1987 is 1984 and -1.001 is -1; in float16 70,000 is infinite and 1e-9 is 0."""
    keras.config.set_dtype_policy(policy)
    x = np.array([[[1987, 70_000], [-1, -1], [-1.001, -1], [1e-9, 1e-9]]], "float32")
    inputs = zoo.Vectors(2, mean=[1990, 7e4], std=[5, 1e4], padding=-1.0)
    y = inputs.encode(keras.ops.convert_to_tensor(x), steps=True)
    expected = (x - [1990, 70_000]) / [5, 10_000]
    np.testing.assert_allclose(np.asarray(y)[:, [0, 2, 3]], expected[:, [0, 2, 3]], rtol=1e-4)
    assert np.asarray(get_keras_mask(y)).tolist() == [[True, False, True, True]]
    tiny = zoo.Vectors(1).encode(keras.ops.convert_to_tensor(x[:, 3:, :1]), steps=True)
    assert np.asarray(get_keras_mask(tiny)).tolist() == [[True]]


def test_the_padding_of_vectors_is_masked():
    x = np.array([[[0, 0], [0, 1], [-1, -1], [-1, 2]]], "float32")
    for padding, expected in ((0.0, [0, 1, 1, 1]), (-1.0, [1, 1, 0, 1])):
        y = zoo.Vectors(2, padding=padding).encode(keras.ops.convert_to_tensor(x), steps=True)
        assert np.asarray(get_keras_mask(y)).tolist() == [[bool(n) for n in expected]]
    y = zoo.Vectors(2, padding=None).encode(keras.ops.convert_to_tensor(x), steps=True)
    assert get_keras_mask(y) is None


def gappy(seed=0):
    """Measurements with gaps; the second row has two steps of padding, -9."""
    x = np.random.default_rng(seed).normal(5.0, 2.0, (2, 5, 2)).astype("float32")
    x[0, 1, 0] = x[0, 4] = x[1, 0, 1] = np.nan
    x[1, 3:] = -9.0
    return x


def test_missing_vectors_are_the_mean_and_named():
    x = gappy()
    inputs = zoo.Vectors(2, mean=5.0, std=[2.0, 4.0], padding=-9.0, missing=True)
    y = inputs.encode(keras.ops.convert_to_tensor(x), steps=True)
    missing = np.isnan(x)
    expected = np.concatenate([np.where(missing, 0, (x - 5) / [2, 4]), missing], axis=-1)
    valid = [[True] * 5, [True] * 3 + [False] * 2]
    assert np.asarray(get_keras_mask(y)).tolist() == valid
    np.testing.assert_allclose(np.asarray(y)[valid], expected[valid], atol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "grud"])
def test_models_read_missing_values(tmp_path, cell):
    """In `fit`, `predict`, saved and exported; what is not finite otherwise is refused."""
    x = gappy()
    inputs = zoo.Vectors(2, mean=5.0, std=2.0, padding=-9.0, missing=cell == "gru")
    model = zoo.many_to_one(inputs, zoo.Values(1), cell, units=3, jit_compile=False)
    model.compile("adam", jit_compile=False)
    losses = model.fit(x, np.ones((2, 1)), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    padded = np.concatenate([x, np.full((2, 2, 2), -9.0, "float32")], axis=1)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), model.predict(padded, verbose=0), atol=1e-6
    )
    assert_saves(model, x, tmp_path)
    with pytest.raises(ValueError, match=r"x\[0, 0, 0\]=inf: expected a number that is finite"):
        model.predict(np.where(np.arange(5)[:, None] == 0, np.inf, x), verbose=0)
    plain = zoo.many_to_one(zoo.Vectors(2), zoo.Values(1), "gru", units=3)
    with pytest.raises(ValueError, match=r"x\[0, 1, 0\]=nan: expected a number that is finite"):
        plain.predict(x, verbose=0)


@pytest.mark.parametrize("steps", [False, True])
def test_images_in_numpy(steps):
    """A video is encoded frame by frame."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 7, 6, 2)).astype("float32")
    x = images.reshape(2, 3, 7, 6, 2) if steps else images
    model, x = encoded(zoo.Images((7, 6, 2), filters=(3, 4), units=5), x, steps)
    encoder = model.get_layer("each_frame").layer if steps else model.get_layer("image_encoder")
    expected = numpy_models.convolutional_encoder(encoder, images)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(np.asarray(model(x)).reshape(6, 5), expected, atol=1e-5)


def test_a_frame_of_padding_is_masked():
    x = np.zeros((1, 3, 2, 2, 1), "float32")
    x[0, 1, 0, 1] = 7
    y = zoo.Images((2, 2, 1), filters=(2,)).encode(keras.ops.convert_to_tensor(x), steps=True)
    assert np.asarray(get_keras_mask(y)).tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.Vectors(0), "features=0: expected a positive integer"),
        (lambda: zoo.Vectors(2, mean=[1.0]), "mean has 1 number; expected one, or one for each"),
        (lambda: zoo.Vectors(2, mean=float("nan")), "mean=nan: expected a finite number"),
        (lambda: zoo.Vectors(2, std=[1, 0]), "std=0: expected a positive number"),
        (lambda: zoo.Tokens(1), "vocabulary=1: expected at least 2; 0 is padding"),
        (lambda: zoo.Tokens(2.5), r"vocabulary=2\.5: expected a positive integer"),
        (lambda: zoo.Tokens(9, 0), "units=0: expected a positive integer"),
        (lambda: zoo.Images((8, 8)), r"shape=\(8, 8\): expected \(height, width, channels\)"),
        (lambda: zoo.Images((8, 3, 1)), r"expected a height and a width of at least 4"),
        (lambda: zoo.Images((8, 8, 0)), r"shape=\(8, 8, 0\): expected a sequence of positive int"),
        (
            lambda: zoo.Images((8, 8, 1), filters=0),
            "filters=0: expected a sequence of positive int",
        ),
        (lambda: zoo.Vectors(2, padding=float("nan")), "padding=nan: expected a finite number"),
        (lambda: zoo.Vectors(2, mean="01"), "mean='01': expected a number, or one for each"),
        (lambda: zoo.Labels(0), "count=0: expected a positive integer"),
        (lambda: zoo.one_to_one(zoo.Tokens(9), zoo.Classes(2)), "tokens come in sequences"),
        (lambda: zoo.many_to_one(zoo.Labels(9), zoo.Classes(2)), "a label is a single id"),
        (lambda: zoo.many_to_one(9, zoo.Classes(2)), r"inputs=9: expected zoo\.Vectors, Tokens"),
        (lambda: zoo.Inputs(), r"Inputs\(\): expected zoo\.Vectors, Tokens, Images or Labels"),
        (lambda: zoo.Inputs(zoo.Tokens(9), 3), r"parts=3: expected zoo\.Vectors, Tokens"),
        (lambda: zoo.Inputs(a=zoo.Classes(3)), r"a=Classes\(count=3\): expected zoo\.Vectors"),
        (lambda: zoo.Inputs(zoo.Labels(3), static=zoo.Tokens(9)), "tokens come in sequences"),
        (lambda: zoo.Inputs(zoo.Tokens(9), static=3), "static=3: expected a list"),
        (
            lambda: zoo.Inputs(zoo.Labels(3), labels=zoo.Labels(4)),
            "2 parts have the name 'labels'; expected different names",
        ),
        (
            lambda: zoo.many_to_one(zoo.Inputs(zoo.Labels(3), zoo.Labels(4)), zoo.Classes(2)),
            r"Inputs\(static=.*: no part is a sequence; expected Tokens",
        ),
        (
            lambda: zoo.one_to_one(zoo.Inputs(zoo.Tokens(9), zoo.Labels(4)), zoo.Classes(2)),
            "tokens come in sequences",
        ),
    ],
    ids=variant_id,
)
def test_invalid_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Several inputs, compared with models of Keras's own layers.

TIME = 4
WORDS = np.array([[3, 8, 1, 3], [5, 1, 2, 0], [2, 2, 0, 0]])
WIND = np.random.default_rng(1).normal(size=(3, TIME, 2)).astype("float32")
WIND[0, 3] = WIND[2, 1:] = -1.0  # padding, other than that of the words
PLACE = np.array([2, 0, 1])
SIZE = np.random.default_rng(2).normal(size=(3, 3)).astype("float32")
DATA = {"words": WORDS, "wind": WIND, "place": PLACE, "size": SIZE}
PREVIOUS = np.array([[1, 3, 4, 5], [1, 4, 2, 0], [1, 6, 0, 0]])


def several():
    return zoo.Inputs(
        zoo.Labels(3, 2),
        words=zoo.Tokens(9, 4),
        wind=zoo.Vectors(2, mean=0.5, std=2.0, padding=-1.0),
        static={"size": zoo.Vectors(3)},
    )


def named():
    return {**{name: DATA[name] for name in ("words", "wind", "size")}, "labels": PLACE}


def copied(layer, weights):
    """A built layer of Keras's with the weights of one of kerasrnn's."""
    layer.set_weights(weights)
    return layer


def joined_by_keras(model):
    """The encoded inputs, by Keras's layers, the inputs themselves and the mask."""
    words = keras.Input((TIME,), dtype="int32")
    wind, size = keras.Input((TIME, 2)), keras.Input((3,))
    place = keras.Input((), dtype="int32")
    of_words, of_place = keras.layers.Embedding(9, 4), keras.layers.Embedding(3, 2)
    repeat = keras.layers.RepeatVector(TIME)
    parts = [of_words(words), (wind - 0.5) / 2, repeat(of_place(place)), repeat(size)]
    x = keras.layers.Concatenate()(parts)
    for layer, name in ((of_words, "words"), (of_place, "labels")):
        copied(layer, model.get_layer(f"{name}_embedding").get_weights())
    mask = ops.logical_and(words != 0, ops.any(wind != -1.0, axis=-1))
    return x, [words, wind, place, size], mask


def recurrent_by_keras(layer, x, mask=None, **options):
    gru = passing_masks(keras.layers.GRU(5, **options))
    y = gru(x, mask=mask)
    copied(gru, layer.get_weights())
    return y


def dense_by_keras(layer, x):
    dense = keras.layers.Dense(layer.units, activation=layer.activation)
    y = dense(x)
    copied(dense, layer.get_weights())
    return y


def test_several_inputs_of_every_step(tmp_path):
    """`many_to_many`: values and mask."""
    model = zoo.many_to_many(several(), zoo.Classes(3), "gru", 5)
    assert [x.name for x in model.inputs] == ["words", "wind", "labels", "size"]
    x, inputs, mask = joined_by_keras(model)
    h = recurrent_by_keras(model.get_layer("recurrent").layers[0], x, mask, return_sequences=True)
    plain = keras.Model(inputs, dense_by_keras(model.layers[-1], h))
    given = [WORDS, WIND, PLACE, SIZE]
    y = model(given)
    np.testing.assert_allclose(y, plain(given), atol=1e-6)
    used = (WORDS != 0) & (WIND != -1).any(axis=-1)
    assert 0 < used.sum() < (WORDS != 0).sum()
    np.testing.assert_array_equal(get_keras_mask(y), used)
    np.testing.assert_allclose(model.predict(named(), verbose=0), y, atol=1e-6)
    assert_saves(model, given, tmp_path)


def test_several_inputs_of_one_answer(tmp_path):
    model = zoo.many_to_one(several(), zoo.Values(2), "gru", 5)
    x, inputs, mask = joined_by_keras(model)
    h = recurrent_by_keras(model.get_layer("recurrent").layers[0], x, mask)
    plain = keras.Model(inputs, dense_by_keras(model.layers[-1], h))
    given = [WORDS, WIND, PLACE, SIZE]
    np.testing.assert_allclose(model(given), plain(given), atol=1e-6)
    assert_saves(model, given, tmp_path)


def test_several_inputs_without_steps():
    parts = zoo.Inputs(zoo.Vectors(2, std=2.0), zoo.Vectors(3), place=zoo.Labels(3, 2))
    model = zoo.one_to_one(parts, zoo.MultiLabel(2), hidden=(4,), activation="tanh")
    assert [x.name for x in model.inputs] == ["vectors_1", "vectors_2", "place"]
    (table,) = model.get_layer("place_embedding").get_weights()
    x = np.concatenate([WIND[:, 0] / 2, SIZE, table[PLACE]], axis=-1)
    hidden, last = (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    h = np.tanh(numpy_models.dense(hidden, x))
    expected = numpy_models.sigmoid(numpy_models.dense(last, h))
    np.testing.assert_allclose(model([WIND[:, 0], SIZE, PLACE]), expected, atol=1e-6)


def decoded_by_keras(decoder, context, previous):
    """Teacher forcing, with the context at every step."""
    embedding = keras.layers.Embedding(7, 5)
    x = embedding(previous)
    copied(embedding, decoder.embedding.get_weights())
    x = keras.layers.Concatenate()([x, keras.layers.RepeatVector(TIME)(context)])
    layer, mask = decoder.stack.layers[0], previous != 0
    h = recurrent_by_keras(layer, x, mask, return_sequences=True)
    return dense_by_keras(decoder.readout, h)


def test_several_inputs_of_a_generated_sequence(tmp_path):
    """`one_to_many`, its generator and the encoder of its step."""
    parts = zoo.Inputs(size=zoo.Vectors(3), place=zoo.Labels(3, 2))
    model = zoo.one_to_many(parts, zoo.Classes(7), "every", "gru", units=5)
    assert [x.name for x in model.inputs] == ["size", "place", "previous"]
    size, place = keras.Input((3,)), keras.Input((), dtype="int32")
    previous = keras.Input((TIME,), dtype="int32")
    embedding = keras.layers.Embedding(3, 2)
    context = keras.layers.Concatenate()([size, embedding(place)])
    copied(embedding, model.get_layer("place_embedding").get_weights())
    logits = decoded_by_keras(model.get_layer("decoder"), context, previous)
    plain = keras.Model([size, place, previous], keras.layers.Activation("softmax")(logits))
    given = [SIZE, PLACE, PREVIOUS]
    np.testing.assert_allclose(model(given), plain(given), atol=1e-6)
    assert_saves(model, given, tmp_path)
    check_generation(model, [SIZE, PLACE])


def test_several_inputs_of_an_encoder(tmp_path):
    model = zoo.encoder_decoder(several(), zoo.Classes(7), "every", "gru", units=5)
    x, inputs, mask = joined_by_keras(model)
    state = recurrent_by_keras(model.get_layer("encoder").layers[0], x, mask)
    context = dense_by_keras(model.get_layer("context"), state)
    previous = keras.Input((TIME,), dtype="int32")
    logits = decoded_by_keras(model.get_layer("decoder"), context, previous)
    plain = keras.Model([*inputs, previous], keras.layers.Activation("softmax")(logits))
    given = [WORDS, WIND, PLACE, SIZE, PREVIOUS]
    np.testing.assert_allclose(model(given), plain(given), atol=1e-6)
    assert_saves(model, given, tmp_path)
    check_generation(model, given[:-1])


def check_generation(model, sources):
    """The generator is greedy, and the encoder has the inputs of the model."""
    writer = zoo.generator(model, max_length=3, start=1)
    written = np.asarray(writer(sources))
    p = np.array(model([*sources, np.insert(written[:, :-1], 0, 1, axis=1)]))
    p[..., :2] = 0  # padding and the start symbol
    np.testing.assert_array_equal(written, p.argmax(axis=-1))
    encoder, _ = zoo.encoder_and_step(model)
    assert [x.name for x in encoder.inputs] == [x.name for x in model.inputs[:-1]]


@pytest.mark.gradients
def test_several_inputs_train_with_data_by_name():
    model = zoo.many_to_many(several(), zoo.Classes(3), "gru", 5)
    model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    y = (np.arange(12).reshape(3, TIME) + PLACE[:, None]) % 3
    history = model.fit(named(), y, epochs=8, verbose=0)
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wind": WIND[:, :3]}, r"x\['wind'\] has 3 steps, and x\['words'\] 4: expected equal num"),
        ({"wind": WIND[:2]}, r"x\['wind'\] has 2 rows, and x\['words'\] 3: expected equal numbers"),
        (
            {"wind": WIND[..., :1]},
            r"x\['wind'\] has the shape \(3, 4, 1\): expected \(batch, time, ",
        ),
        (
            {"wind": np.where(np.isclose(WIND, WIND[1, 2, 0]), np.nan, WIND)},
            r"x\['wind'\]\[1, 2, 0\]=nan: .* It is in row 1, step 2, column 0",
        ),
        ({"words": WORDS + 1}, r"x\['words'\]\[0, 1\]=9: expected an integer from 0 to 8"),
        ({"labels": PLACE + 1}, r"x\['labels'\]\[0\]=3: expected an integer from 0 to 2"),
        ({"size": SIZE * np.inf}, r"x\['size'\]\[0, 0\]=-?inf: expected a number that is finite"),
    ],
    ids=["steps", "rows", "width", "nan", "word", "label", "static"],
)
def test_errors_name_the_input(change, message):
    model = zoo.many_to_one(several(), zoo.Classes(3), "simple_rnn", 2)
    with pytest.raises(ValueError, match=f"^{message}"):
        model.predict({**named(), **change}, verbose=0)


def test_joined_steps_refuse_other_shapes():
    layer = JoinedSteps(2)
    with pytest.raises(ValueError, match="the sequences have 4, 3 steps; expected equal numbers"):
        layer([WIND, WIND[:, :3]])
    with pytest.raises(
        ValueError, match=r"tensor 1 has the shape \(3, 3\); expected \(batch, time"
    ):
        layer([WIND, SIZE])
    with pytest.raises(ValueError, match="1 tensors; expected at least 2"):
        layer([WIND])


@pytest.mark.tensorflow
@pytest.mark.traced
def test_several_inputs_are_exported(tmp_path):
    model = zoo.many_to_many(several(), zoo.Classes(3), "gru", 5)
    given = [WORDS.astype("int32"), WIND, PLACE.astype("int32"), SIZE]
    short = [given[0][:1, :2], given[1][:1, :2], given[2][:1], given[3][:1]]
    names = ["words", "wind", "labels", "size"]
    assert_exports(model, [given, short], tmp_path, (names, ["probabilities"]))


@pytest.mark.tensorflow
def test_several_inputs_of_a_step():
    """Static inputs have no time axis."""
    from kerasrnn.export import to_step

    parts = zoo.Inputs(words=zoo.Tokens(9, 4), wind=zoo.Vectors(2), static=zoo.Vectors(3))
    step = to_step(zoo.many_to_many(parts, zoo.Classes(3), "gru", 5))
    assert [x.name for x in step.inputs][:2] == ["words_t", "wind_t"]
