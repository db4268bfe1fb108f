"""The convolutional layers: against Keras's, the NumPy oracles, and the layers of vectors."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.catalogue import (
    ACTIVATIONS,
    IMAGE_ROWS,
    IMAGES_IN_KERAS,
    OF_PICTURES,
    variant_id,
)
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    TRAINING,
    assert_same,
    assert_same_outputs,
    make_mask,
    measure,
    op_by_op,
    passing_masks,
    randomize,
)
from tests.oracles import complex_step
from tests.oracles import loop as oracle_loop
from tests.oracles.activations import relu, sigmoid

NUMPY_ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}
BATCH, TIME = 4, 3
rows = pytest.mark.parametrize("row", IMAGE_ROWS, ids=variant_id)
in_keras = pytest.mark.parametrize("row", IMAGES_IN_KERAS, ids=variant_id)
pictures = pytest.mark.parametrize("row", OF_PICTURES, ids=variant_id)
LSTM, GRU = OF_PICTURES


def sequences(row, data_format="channels_last", dtype=PRECISION, batch=BATCH, time=TIME):
    x = np.random.default_rng(0).standard_normal((batch, time, *row.image)).astype(dtype)
    return x if data_format == "channels_last" else np.moveaxis(x, -1, 2).copy()


def layer_of(row, x, **options):
    """A built layer with random weights."""
    options = {"return_sequences": True, "return_state": True, "dtype": PRECISION, **options}
    layer = row.layer(**row.arguments(**options))
    layer.build(x.shape)
    randomize(layer)
    return layer


def states_of(layer, batch=BATCH, dtype=PRECISION):
    random = np.random.default_rng(3)
    shapes = layer.cell.state_shapes
    return [random.standard_normal((batch, *shape)).astype(dtype) for shape in shapes]


# Keras's layers.


class ChannelsFirst(keras.layers.Layer):
    """A layer of Keras's with the channels first: on CPUs, TensorFlow has no such convolutions."""

    def __init__(self, layer):
        super().__init__(dtype=PRECISION)
        self.layer, self.built, self.supports_masking = layer, True, True

    def call(self, x, initial_state=None, mask=None, training=False):
        states = [ops.moveaxis(s, 1, -1) for s in initial_state] if initial_state else None
        x = ops.moveaxis(x, 2, -1)
        y, *states = self.layer(x, initial_state=states, mask=mask, training=training)
        return [ops.moveaxis(y, -1, 2), *(ops.moveaxis(s, -1, 1) for s in states)]


def keras_twin(row, ours, x):
    twin = passing_masks(
        row.keras_layer.from_config({**ours.get_config(), "data_format": "channels_last"})
    )
    channels_first = ours.data_format == "channels_first"
    twin.build(np.moveaxis(x, 2, -1).shape if channels_first else x.shape)
    twin.set_weights(ours.get_weights())
    return ChannelsFirst(twin) if channels_first else twin


PICTURE, (LINE, _, BODY) = IMAGES_IN_KERAS[1], IMAGES_IN_KERAS


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("row", "options"),
    [
        (LINE, {}),
        (LINE, {"padding": "valid", "data_format": "channels_first", "go_backwards": True}),
        (PICTURE, {"padding": "valid", "kernel_size": (2, 3)}),
        (PICTURE, {"kernel_size": 2, "go_backwards": True}),
        (PICTURE, {"kernel_size": (4, 1), "strides": (2, 1), "unroll": True}),
        (PICTURE, {"padding": "valid", "strides": 2, "zero_output_for_mask": True}),
        (PICTURE, {"kernel_size": 2, "dilation_rate": 2}),
        (PICTURE, {"data_format": "channels_first", "use_bias": False}),
        (BODY, {}),
    ],
    ids=variant_id,
)
def test_equal_keras(row, options):
    """Outputs, states and gradients, from given states; without a mask and with any."""
    x = sequences(row, options.get("data_format", "channels_last"))
    ours = layer_of(row, x, **options)
    twin, states = keras_twin(row, ours, x), states_of(ours)
    # On JAX, Keras's loop takes masks of vectors only.
    for mask in (None, make_mask("mixed", BATCH, TIME))[: 1 + FIRST_BACKEND]:
        with op_by_op():
            expected = measure(twin, x, states, mask)
            for training in TRAINING:
                assert_same(measure(ours, x, states, mask, training), expected, TIGHT)
            assert_same_outputs(ours, expected, TIGHT, x, states, mask)


@in_keras
def test_constructors_equal_keras(row):
    """The same arguments, order and defaults; additional ones follow."""
    ours, theirs = (
        [
            (p.name, p.default)
            for p in inspect.signature(layer).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        for layer in (row.layer, row.keras_layer)
    )
    assert ours == [*theirs, ("unroll", False)]


EVERYTHING = {
    "strides": 2,
    "padding": "VALID",
    "data_format": "channels_first",
    "activation": "softsign",
    "recurrent_activation": "hard_sigmoid",
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.3, seed=1),
    "recurrent_regularizer": keras.regularizers.L1(0.2),
    "bias_constraint": keras.constraints.NonNeg(),
    "activity_regularizer": keras.regularizers.L2(0.4),
    "dropout": 0.1,
    "recurrent_dropout": 0.2,
    "seed": 3,
    "return_sequences": True,
    "go_backwards": True,
    "unroll": True,
    "name": "a_name",
    "dtype": "mixed_bfloat16",
}


@in_keras
def test_configurations_and_weights_equal_keras(row):
    for options in ({}, EVERYTHING, {"dilation_rate": 3, "dtype": PRECISION}):
        keras.utils.set_random_seed(5)
        ours = row.layer(3, 2, **{"name": "n", **options})
        keras.utils.set_random_seed(5)
        theirs = row.keras_layer(3, 2, **{"name": "n", **options})
        assert ours.get_config() == theirs.get_config()
        assert row.layer.from_config(theirs.get_config()).get_config() == ours.get_config()
        for layer in (ours, theirs):
            layer.build((None, None, *(8,) * row.cell.rank, 8))
        for one, other in zip(ours.weights, theirs.weights, strict=True):
            assert (one.name, one.dtype) == (other.name, other.dtype)
            np.testing.assert_array_equal(one, other)


@pytest.mark.torch_backend
def test_dropout_equals_keras():
    """One seed, the same masks: one per gate, of inputs and of states."""
    x = sequences(PICTURE)
    ours = layer_of(PICTURE, x, dropout=0.3, recurrent_dropout=0.3, seed=11)
    twin = keras_twin(PICTURE, ours, x)
    with op_by_op():
        expected = measure(twin, x, training=True)
        without = ops.convert_to_numpy(ours(x)[0])
        actual = measure(ours, x, training=True)
    assert_same(actual, expected, TIGHT)
    assert np.abs(without - actual.outputs[0]).max() > 1e-2


def test_implementation_2_draws_one_mask_of_the_inputs():
    """With ones as inputs and no recurrence, each gate is then zero at the same pixels."""
    x = np.ones((1, 1, *PICTURE.image), "float32")
    for implementation, count in ((1, 4), (2, 1)):
        layer = PICTURE.layer(2, 1, dropout=0.5, seed=1, implementation=implementation)
        layer.build(x.shape)
        masks = layer.cell.draw_noise(x[:, 0], states_of(layer, 1)).sequences["inputs"]
        assert len(masks) == count
        with op_by_op():
            assert np.abs(np.asarray(layer(x, training=True)) - np.asarray(layer(x))).max() > 0
    config = PICTURE.layer(2, 1, implementation=2).get_config()
    assert config["implementation"] == 2
    assert PICTURE.layer.from_config(config).cell.implementation == 2


# The oracles.


def by_the_oracle(row, layer, x, states, mask=None, **loop_options):
    """What `measure` returns, as arrays, from the NumPy loop and its complex steps."""
    names = [w.name for w in layer.weights]
    weights = dict(zip(names, layer.get_weights(), strict=True))
    config = layer.get_config()
    options = {name: config[name] for name in row.oracle_options} | loop_options
    for name in ACTIVATIONS:
        options[name] = NUMPY_ACTIVATIONS[config[name]]
    outputs, _, finals = oracle_loop.run(row.oracle.step, x, states, weights, mask=mask, **options)
    random = np.random.default_rng(7)  # the factors of `measure`
    d_outputs, *d_finals = (random.standard_normal(y.shape) for y in (outputs, *finals))
    d_x, d_states, d_weights = complex_step.backward(
        row.oracle.step, x, states, weights, d_outputs, d_finals, mask=mask, **options
    )
    return [outputs, *finals, d_x, *d_states, *(d_weights[name] for name in names)]


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("row", "variant"),
    [
        *((row, {}) for row in IMAGE_ROWS),
        *((row, variant) for row in OF_PICTURES for variant in row.oracle.VARIANTS if variant),
        (GRU, {"go_backwards": True, "zero_output_for_mask": True}),
        (LSTM, {"activation": "gelu"}),
    ],
    ids=variant_id,
)
def test_equals_the_oracle(row, variant):
    """Outputs and gradients, with any mask; the manual adjoint and automatic gradients."""
    x = sequences(row, time=2)
    layer, mask = layer_of(row, x, **variant), make_mask("mixed", BATCH, 2)
    states = states_of(layer)
    if variant.get("activation") == "gelu":
        assert not layer.cell.has_adjoint
        twin = layer_of(row, x, **variant, unroll=True)
        with op_by_op():
            expected = measure(twin, x, states, mask).arrays()
    else:
        of_loop = ("go_backwards", "zero_output_for_mask")
        loop_options = {name: variant[name] for name in of_loop if name in variant}
        expected = by_the_oracle(row, layer, x, states, mask, **loop_options)
    for training in TRAINING:
        with op_by_op():
            actual = measure(layer, x, states, mask, training).arrays()
        for a, b in zip(actual, expected, strict=True):
            scale = max(1.0, float(np.abs(b).max()))
            np.testing.assert_allclose(a, b, rtol=0, atol=TIGHT * scale)


@pytest.mark.parametrize(
    ("row", "vectors", "variant"),
    [
        (IMAGE_ROWS[0], kerasrnn.LSTM, {}),
        (LSTM, kerasrnn.LSTM, {"recurrent_dropout": 0.3}),
        (GRU, kerasrnn.GRU, {"reset_after": False}),
        (IMAGE_ROWS[5], kerasrnn.GRU, {"use_bias": False}),
    ],
    ids=variant_id,
)
def test_an_image_of_one_pixel_is_a_vector(row, vectors, variant):
    """A kernel of size 1 is then a matrix: the layer equals that of vectors."""
    random = np.random.default_rng(0)
    x = random.standard_normal((BATCH, TIME, 3)).astype(PRECISION)
    options = {"return_sequences": True, "return_state": True, "dtype": PRECISION, "seed": 2}
    options |= variant
    one = row.layer(5, 1, **options)
    other = vectors(5, **options)
    images = x.reshape(BATCH, TIME, *(1,) * row.cell.rank, 3)
    one.build(images.shape)
    other.build(x.shape)
    randomize(other)
    shapes = [w.shape for w in one.weights]
    one.set_weights([v.reshape(s) for v, s in zip(other.get_weights(), shapes, strict=True)])
    mask = make_mask("mixed", BATCH, TIME)
    with op_by_op():
        actual = measure(one, images, mask=mask, training=True)
        expected = measure(other, x, mask=mask, training=True)
    for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=0, atol=TIGHT)


# The loop.


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (LSTM, {}),
        (LSTM, {"checkpoint_every": 2, "recurrent_dropout": 0.3}),
        (GRU, {"truncate_every": 2, "reset_after": False, "kernel_size": 2}),
        (GRU, {"jit_compile": True, "data_format": "channels_first", "dropout": 0.3}),
    ],
    ids=variant_id,
)
def test_the_loop_equals_unrolled_steps(row, options):
    """Traced; PyTorch has only the latter."""
    x = sequences(row, options.get("data_format", "channels_last"), time=5)
    mask = make_mask("mixed", BATCH, 5)
    layer = layer_of(row, x, seed=1, **options)
    states = states_of(layer)
    of_loop = ("checkpoint_every", "jit_compile", "truncate_every")
    same = {name: value for name, value in options.items() if name not in of_loop}
    unrolled = layer_of(row, x, seed=1, unroll=True, **same)
    actual = measure(layer, x, states, mask, training=True)
    with op_by_op():
        if "truncate_every" in options:
            unrolled = cut(unrolled, options["truncate_every"])
        expected = measure(unrolled, x, states, mask, training=True)
    assert_same(actual, expected, TIGHT)


def cut(layer, length):
    """Calls a layer on one piece of the sequence after the other, and stops their gradients."""

    class Pieces(keras.layers.Layer):
        def __init__(self):
            super().__init__(dtype=PRECISION)
            self.piece, self.built = layer, True
            self.supports_masking = True

        def call(self, x, initial_state=None, mask=None, training=False):
            outputs, states, last = [], initial_state, None
            for start in range(0, x.shape[1], length):
                part = mask[:, start : start + length]
                output, *states = self.piece(
                    x[:, start : start + length], list(states), mask=part, training=training
                )
                if last is not None:  # a masked step repeats the output of the piece before
                    seen = np.cumsum(part, axis=1).astype(bool)[:, :, None, None, None]
                    output = ops.where(seen, output, last[:, None])
                outputs.append(output)
                last = output[:, -1]
                if start + length < x.shape[1]:
                    states = [ops.stop_gradient(state) for state in states]
            return [ops.concatenate(outputs, axis=1), *states]

    return Pieces()


@pytest.mark.tensorflow
def test_graphs_of_any_batch_and_length(monkeypatch):
    """As in `fit`: the sizes are unknown when a graph is traced, and parts may be empty."""
    import tensorflow as tf

    from kerasrnn.recurrence.tensorflow import parts

    monkeypatch.setattr(parts, "cores", lambda: 2)
    x = sequences(LSTM, time=5)
    layer = layer_of(LSTM, x)

    @tf.function(input_signature=[tf.TensorSpec((None, None, *LSTM.image), PRECISION)])
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(y**2) for y in layer(x, training=True)])
        return tape.gradient(loss, [w.value for w in layer.trainable_weights])

    for some in (x, x[:1, :2], x[:3]):
        with op_by_op(), tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(y**2) for y in layer(some, training=True)])
        expected = tape.gradient(loss, [w.value for w in layer.trainable_weights])
        for a, b in zip(gradients(some), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.tensorflow
def test_loops_of_convolutions_are_not_compiled_on_cpus(monkeypatch):
    from kerasrnn.recurrence.loop import Call, Noise, Options
    from kerasrnn.recurrence.tensorflow import choice

    cell, options = kerasrnn.ConvLSTM2DCell(2, 3), Options(training=True)
    call = Call(keras.KerasTensor((2, 4, 5, 5, 2)), [], {}, {}, Noise(), None)
    monkeypatch.setattr(choice.tf, "executing_eagerly", lambda: False)
    assert choice._way(kerasrnn.LSTMCell(2), options, call, "auto") is choice.compiled_loop
    assert choice._way(cell, options, call, "auto") is choice.parallel_loop
    assert choice._way(cell, Options(), call, "auto") is choice.graph_loop
    assert choice._way(cell, Options(training=True, unroll=True), call, "auto") is choice.graph_loop
    assert choice._way(cell, options, call, True) is choice.compiled_loop
    monkeypatch.setattr(choice.tf.config, "list_physical_devices", lambda kind: [kind])
    assert choice._way(cell, options, call, "auto") is choice.compiled_loop


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.tensorflow
def test_half_precision(policy):
    x = sequences(LSTM, dtype="float32")
    for row in OF_PICTURES:
        exact = layer_of(row, x, dtype="float32", kernel_size=2)
        layer = layer_of(row, x, dtype=policy, kernel_size=2)
        layer.set_weights(exact.get_weights())
        with op_by_op():
            expected, actual = (measure(each, x, training=True) for each in (exact, layer))
        assert actual.outputs[0].dtype.name == layer.compute_dtype
        for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
            close = {"rtol": 0, "atol": 0.05 * np.abs(b).max()}
            np.testing.assert_allclose(np.asarray(a, "float32"), b, **close, err_msg=policy)


# In models.


@pytest.mark.torch_backend
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_states_are_passed_on(data_format):
    """By stateful layers from batch to batch, by a caller, and from step to step of the cell."""
    x = sequences(GRU, data_format, time=4)
    whole = layer_of(GRU, x, data_format=data_format, unroll=True)
    with op_by_op():
        expected, final = (ops.convert_to_numpy(y) for y in whole(x))
        stateful = layer_of(GRU, x, data_format=data_format, stateful=True, return_state=False)
        parts = [ops.convert_to_numpy(stateful(part)) for part in (x[:, :1], x[:, 1:])]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=TIGHT)
        stateful.reset_state()
        np.testing.assert_allclose(stateful(x[:, :1]), expected[:, :1], atol=TIGHT)
        _, state = whole(x[:, :3])
        last, _ = whole(x[:, 3:], initial_state=state)
        np.testing.assert_allclose(last[:, 0], expected[:, 3], atol=TIGHT)
        output, states = whole.cell(x[:, 3], [state])
        np.testing.assert_allclose(output, expected[:, 3], atol=TIGHT)
        np.testing.assert_allclose(states[0], final, atol=TIGHT)


def test_zoneout_and_dropped_weights():
    """Options of every cell: with a rate near 1 the states remain, in both data formats."""
    for data_format in ("channels_last", "channels_first"):
        x = sequences(LSTM, data_format)
        layer = layer_of(LSTM, x, data_format=data_format, zoneout=[0.999999, 0.0], weight_drop=0.5)
        h, c = states_of(layer)
        with op_by_op():
            outputs, last_h, last_c = layer(x, initial_state=[h, c], training=True)
        np.testing.assert_array_equal(outputs, np.stack([h] * TIME, axis=1))
        np.testing.assert_array_equal(last_h, h)
        assert np.abs(np.asarray(last_c) - c).min() > 0


def test_in_stacks_and_in_both_directions():
    """Written out with the layers themselves; with a mask, and residual connections."""
    x, mask = sequences(GRU), make_mask("mixed", BATCH, TIME)
    options = {"padding": "same", "return_sequences": True, "dtype": PRECISION}
    both = kerasrnn.Bidirectional(kerasrnn.ConvLSTM2D(2, 3, **options), dtype=PRECISION)
    stack = kerasrnn.StackedRNN(
        [kerasrnn.ConvGRU2D(2, 3, **options), kerasrnn.ConvLSTM2D(2, 3, **options)],
        residual=True,
        return_sequences=True,
        dtype=PRECISION,
    )
    with op_by_op():
        for layer in (both, stack):
            layer.build(x.shape)
            randomize(layer)
        forward, backward = (
            ops.convert_to_numpy(each(x, mask=mask))
            for each in (both.forward_layer, both.backward_layer)
        )
        expected = np.concatenate([forward, backward[:, ::-1]], axis=-1)
        np.testing.assert_allclose(both(x, mask=mask), expected, atol=TIGHT)
        first = stack.layers[0](x, mask=mask)
        expected = ops.convert_to_numpy(stack.layers[1](first, mask=mask) + first)
        np.testing.assert_allclose(stack(x, mask=mask), expected, atol=TIGHT)


@rows
def test_shapes(row):
    """Those of the results, computed before the layer is built and in a functional model."""
    for options in ({}, {"padding": "valid", "strides": 2, "data_format": "channels_first"}):
        x = sequences(row, options.get("data_format", "channels_last"), "float32")
        layer = row.layer(
            **row.arguments(return_sequences=True, return_state=True, **options), name="it"
        )
        computed = layer.compute_output_shape((None, TIME, *x.shape[2:]))
        symbolic = layer(keras.Input((TIME, *x.shape[2:])))
        with op_by_op():
            results = layer(x)
        for one, other, y in zip(computed, symbolic, results, strict=True):
            assert one == other.shape == (None, *y.shape[1:])
            assert len(y.shape) == row.cell.rank + (3 if y is results[0] else 2)


def test_saved_models_are_the_same(tmp_path):
    """Every layer, and a cell in `RNN`, which equals Keras's."""
    inputs, outputs = {}, {}
    for row in IMAGE_ROWS:
        inputs[row.name] = keras.Input((TIME, *row.image), name=row.name)
        layer = row.layer(**row.arguments(dropout=0.1), name=f"a_{row.name}")
        outputs[row.name] = layer(inputs[row.name])
    cell = kerasrnn.ConvGRU2DCell(2, 3, strides=2)
    outputs["cell"] = kerasrnn.RNN(cell, name="cell")(inputs["ConvGRU2D"])
    model = keras.Model(inputs, outputs)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    x = {row.name: sequences(row, dtype="float32") for row in IMAGE_ROWS}
    with op_by_op():
        expected = {name: ops.convert_to_numpy(y) for name, y in model(x).items()}
        for name, y in loaded(x).items():
            np.testing.assert_array_equal(y, expected[name])
        of_keras = keras.layers.RNN(cell)(x["ConvGRU2D"])
    np.testing.assert_allclose(of_keras, expected["cell"], atol=1e-6)


def test_weight_files_are_interchangeable_with_keras(tmp_path):
    x = sequences(PICTURE, dtype="float32")

    def model(layer):
        return keras.Sequential([keras.Input(x.shape[1:]), layer(2, 3), keras.layers.Flatten()])

    ours, theirs = model(PICTURE.layer), model(PICTURE.keras_layer)
    theirs.save_weights(tmp_path / "w.weights.h5")
    ours.load_weights(tmp_path / "w.weights.h5")
    with op_by_op():
        np.testing.assert_allclose(ours(x), theirs(x), atol=1e-6)


def test_a_custom_cell():
    """Differentiated automatically, with a product that is applied twice."""

    class Twice(kerasrnn.ConvolutionalCell):
        rank = 1

        def step(self, a, states, weights, products):
            (product,) = products
            h = self.activation(a + product(self.activation(product(states[0]))))
            return h, [h]

    x = sequences(IMAGE_ROWS[0])
    layers = [
        kerasrnn.RNN(Twice(2, 2, padding="same", dtype=PRECISION), dtype=PRECISION, **options)
        for options in ({}, {"unroll": True})
    ]
    measured = []
    for layer in layers:
        layer.build(x.shape)
        randomize(layer)
        with op_by_op():
            measured.append(measure(layer, x, training=True))
    assert_same(*measured, TIGHT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, r"kernel_size=0: expected a positive integer, or 2 of them"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\): expected a positive integer, or 2"),
        ({"strides": "2"}, r"strides='2': expected"),
        ({"dilation_rate": (1, 2.5)}, r"dilation_rate=\(1, 2.5\)"),
        ({"strides": 2, "dilation_rate": 2}, r"strides=\(2, 2\), dilation_rate=\(2, 2\): expected"),
        ({"padding": "causal"}, "padding='causal': expected 'valid' or 'same'"),
        ({"data_format": "NHWC"}, "data_format='NHWC': expected 'channels_last' or 'channels_fi"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.ConvGRU2D(**{"filters": 2, "kernel_size": 3, **arguments})


def test_places_for_vectors_refuse_images():
    from kerasrnn import zoo

    cell = kerasrnn.ConvGRU2DCell(2, 3)
    layer = kerasrnn.RNN(kerasrnn.FeedbackCell(cell, 3))
    with pytest.raises(ValueError, match=r"ConvGRU2DCell has outputs of shape \(batch, 3, 3, 2\)"):
        layer.build((None, None, 5, 5, 2))
    with pytest.raises(ValueError, match="expected data_format='channels_last' in a wrapping cell"):
        kerasrnn.WrappingCell(kerasrnn.ConvGRU2DCell(2, 3, data_format="channels_first"), 2)
    with pytest.raises(ValueError, match="a layer of images; expected one of vectors"):
        zoo.layer_class(kerasrnn.ConvGRU2D)


def test_bad_inputs_are_refused():
    layer = kerasrnn.ConvLSTM2D(2, 3)
    with pytest.raises(ValueError, match=r"images of \(2, 5\) are smaller than the kernel; expec"):
        layer.build((None, None, 2, 5, 3))
    with pytest.raises(ValueError, match="the sizes and the channels of the images must be known"):
        kerasrnn.ConvLSTM2D(2, 3).build((None, None, None, 5, 3))
    layer = kerasrnn.ConvLSTM2D(2, 3)
    with op_by_op():
        layer(np.ones((2, 3, 5, 5, 3), "float32"))
    for shape in ((2, 3, 5, 6, 3), (2, 3, 5, 5, 4), (2, 3, 5, 3)):
        with pytest.raises(ValueError, match="incompatible with the layer"):
            layer(np.ones(shape, "float32"))
    with pytest.raises(
        ValueError, match=r"initial_state h has the shape .*expected \(batch, ...\)"
    ):
        layer(np.ones((2, 3, 5, 5, 3), "float32"), initial_state=[np.ones((2, 5, 5, 2))] * 2)
    with pytest.raises(TypeError, match="missing a required argument: 'kernel_size'"):
        kerasrnn.ConvLSTM2D(2)
    with pytest.raises(TypeError, match="missing a required argument: 'filters'"):
        kerasrnn.ConvLSTM2D(units=2, kernel_size=3)
