"""The unrolled loop of backends without a loop of their own: PyTorch.

`make test-torch` runs these tests with KERAS_BACKEND=torch.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import BUILT_IN, PROBES, ROWS, variant_id
from tests.measure import TIGHT, Measured, assert_same, make_mask, measure, randomize
from tests.oracles import complex_step
from tests.oracles import loop as oracle_loop

pytestmark = [
    pytest.mark.torch_backend,
    pytest.mark.skipif(keras.config.backend() != "torch", reason="needs KERAS_BACKEND=torch"),
]

UNITS, FEATURES = 5, 3


def inputs():
    return np.random.default_rng(0).standard_normal((4, 6, FEATURES)).astype("float32")


def by_the_oracle(row, layer, x, mask=None, segment=None, **options):
    """The result of `measure`, computed by the NumPy oracle from initial states of zeros.

    With `segment`, the gradient is cut after so many steps.
    """
    weights = dict(zip((w.name for w in layer.weights), layer.get_weights(), strict=True))
    config = layer.get_config()
    options |= {name: config[name] for name in row.oracle_options}
    states = [np.zeros((len(x), *shape)) for shape in layer.cell.state_shapes]
    every, _, finals = oracle_loop.run(row.oracle.step, x, states, weights, mask=mask, **options)
    outputs = [every, *finals]
    random = np.random.default_rng(7)  # the factors of `measure`
    d_every, *d_finals = (random.standard_normal(y.shape) for y in outputs)
    steps, d_x, d_weights = x.shape[1], [], dict.fromkeys(weights, 0)
    for start in range(0, steps, segment or steps):
        end = start + (segment or steps)
        d_ends = d_finals if end >= steps else [np.zeros_like(d) for d in d_finals]
        part, part_mask = x[:, start:end], None if mask is None else mask[:, start:end]
        d_part, _, d_weights_of_part = complex_step.backward(
            row.oracle.step,
            part,
            states,
            weights,
            d_every[:, start:end],
            d_ends,
            mask=part_mask,
            **options,
        )
        d_x.append(d_part)
        d_weights = {name: d + d_weights_of_part[name] for name, d in d_weights.items()}
        _, _, states = oracle_loop.run(
            row.oracle.step, part, states, weights, mask=part_mask, **options
        )
    trained = [d_weights[weight.name] for weight in layer.trainable_weights]
    return Measured(outputs, np.concatenate(d_x, axis=1), [], trained)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        *((row, {}) for row in ROWS),
        *(
            (row, options)
            for row in PROBES
            for options in (
                {"go_backwards": True},
                {"zero_output_for_mask": True},
                {"truncate_every": 2, "zero_output_for_mask": True},
            )
        ),
    ],
    ids=variant_id,
)
def test_equals_the_oracle(row, options):
    """Outputs, states, and the gradients of the inputs and the weights; masks of every kind."""
    layer = row.layer(UNITS, return_sequences=True, return_state=True, **options)
    layer.build((None, None, FEATURES))
    randomize(layer)
    x, mask = inputs(), make_mask("mixed", 4, 6)
    of_oracle = {name: value for name, value in options.items() if name != "truncate_every"}
    segment = options.get("truncate_every")
    expected = by_the_oracle(row, layer, x, mask, segment, **of_oracle, **row.of_mode(True))
    for training in (False, True) if not segment and not row.of_mode(True) else (True,):
        assert_same(measure(layer, x, mask=mask, training=training), expected, TIGHT)


@pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)
def test_equals_the_builtin_layer(row):
    """With the mask of `Embedding`, through a stack, in both directions."""
    ids = np.array([[1, 2, 0, 3], [4, 0, 0, 0], [0, 5, 6, 0], [0, 0, 0, 0]])

    def model(layer_class, both):
        layers = [layer_class(5, return_sequences=True), both(layer_class(4))]
        embedding = keras.layers.Embedding(9, 3, mask_zero=True)
        return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, *layers])

    ours = model(row.layer, kerasrnn.Bidirectional)
    builtin = model(row.twin, keras.layers.Bidirectional)
    randomize(builtin)
    ours.set_weights(builtin.get_weights())
    expected = builtin(ids)
    np.testing.assert_allclose(ours(ids), expected, rtol=0, atol=1e-6)


@pytest.mark.gradients
@pytest.mark.parametrize("jit_compile", [False, "auto"])
def test_fit_equals_that_of_the_builtin_layer(jit_compile):
    """Also of stateful layers, whose states Keras assigns in place."""
    x, targets = inputs(), np.random.default_rng(2).standard_normal((4, 2))
    ends = []
    for layer_class in (kerasrnn.SimpleRNN, keras.layers.SimpleRNN):
        keras.utils.set_random_seed(5)
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(2, 6, FEATURES)),
                layer_class(4, return_sequences=True, stateful=True),
                layer_class(4, dropout=0.3, seed=1),
                keras.layers.Dense(2),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        history = model.fit(x, targets, batch_size=2, epochs=3, verbose=0, shuffle=False)
        ends.append([*model.get_weights(), history.history["loss"]])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_stateful_layers_continue():
    x = inputs()
    layer = kerasrnn.LSTM(UNITS, stateful=True)
    layer.build(x.shape)
    whole = kerasrnn.LSTM(UNITS)
    whole.build(x.shape)
    whole.set_weights(layer.get_weights())
    layer(x[:, :2])
    np.testing.assert_allclose(layer(x[:, 2:]), whole(x), rtol=0, atol=1e-6)
    layer.reset_state()
    np.testing.assert_allclose(layer(x), whole(x), rtol=0, atol=1e-6)


@pytest.mark.gradients
def test_an_encoder_decoder_with_attention_learns(tmp_path):
    """To copy the first symbol of the source. Loaded, it computes the same."""
    from kerasrnn import zoo

    model = zoo.encoder_decoder(
        zoo.Tokens(6, 4), zoo.Classes(6), cell="gru", units=6, attention="bahdanau"
    )
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    source = np.random.default_rng(0).integers(2, 6, size=(16, 3))
    source[:8, 2] = 0
    previous = np.insert(source[:, :1], 0, 1, axis=1)
    targets = source[:, :2]
    losses = model.fit([source, previous], targets, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    expected = model.predict([source, previous], verbose=0)
    padded = model.predict([np.pad(source, ((0, 0), (0, 2))), previous], verbose=0)
    np.testing.assert_allclose(padded, expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict([source, previous], verbose=0), expected, atol=1e-7)


def test_options_that_the_backend_lacks():
    x = inputs()
    with pytest.raises(ValueError, match="jit_compile=True: the torch backend has no compiled"):
        kerasrnn.LSTM(4, jit_compile=True)(x)
    layer = kerasrnn.LSTM(4, checkpoint_every=2, return_sequences=True)
    with pytest.raises(
        ValueError, match="checkpoint_every=2: the torch backend has no custom gradient"
    ):
        layer(x, training=True)
    # Only training needs the option: a model trained on another backend computes the same here.
    plain = kerasrnn.LSTM(4, return_sequences=True)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x), plain(x))
