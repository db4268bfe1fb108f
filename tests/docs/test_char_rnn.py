"""The numbers of `docs/char_rnn.md`, and the two small facts of `docs/bptt.md`.

The document computes its numbers by hand and with the library, and runs as a doctest. Here the same
numbers are constants, so that a change of both is detected, and are also compared with the NumPy
oracle.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.oracles import loop, simple_rnn

# The document prints four decimals.
AS_PRINTED = {"rtol": 0, "atol": 5.1e-5}

X = np.eye(4)[None, :3]  # d, o, g
TARGET = 3  # s
WEIGHTS = {
    "kernel": np.array([[0.5, -0.3, 0.1], [-0.2, 0.4, 0.3], [0.1, 0.2, -0.5], [0.3, -0.1, 0.2]]),
    "recurrent_kernel": np.array([[0.2, -0.4, 0.1], [0.3, 0.1, -0.2], [-0.1, 0.5, -0.6]]),
    "bias": np.array([0.2, 0.0, -0.2]),
}
DENSE_KERNEL = np.array([[0.4, -0.1, 0.2, -0.3], [-0.2, 0.3, 0.1, 0.5], [0.1, 0.2, -0.4, 0.3]])
DENSE_BIAS = np.array([0.0, 0.1, -0.1, 0.0])

STATES = [[0.6044, -0.2913, -0.0997], [0.0434, 0.0791, 0.2715], [0.2961, 0.3152, -0.7036]]
LOGITS = [-0.0149, 0.0242, 0.2722, -0.1423]
PROBABILITIES = [0.2351, 0.2445, 0.3133, 0.2070]
LOSS = 1.5750
D_LOGITS = [0.2351, 0.2445, 0.3133, -0.7930]
# From the initial to the last state.
D_STATES = [
    [-0.0227, -0.0125, -0.0139],
    [-0.0140, 0.0805, 0.0869],
    [0.1749, 0.1002, -0.0982],
    [0.3702, -0.3388, -0.2908],
]
D_INPUT_PARTS = [[-0.0089, 0.0737, 0.0860], [0.1746, 0.0995, -0.0910], [0.3377, -0.3052, -0.1468]]
D_WEIGHTS = {
    "kernel": [*D_INPUT_PARTS, [0.0, 0.0, 0.0]],
    "recurrent_kernel": [
        [0.1202, 0.0469, -0.0614],
        [-0.0241, -0.0531, 0.0149],
        [0.0743, -0.0928, -0.0308],
    ],
    "bias": [0.5034, -0.1319, -0.1518],
}
D_DENSE_KERNEL = [
    [0.0696, 0.0724, 0.0928, -0.2348],
    [0.0741, 0.0771, 0.0988, -0.2499],
    [-0.1654, -0.1720, -0.2205, 0.5579],
]
D_DENSE_BIAS = D_LOGITS
PROBABILITIES_AFTER = [0.0624, 0.1251, 0.0991, 0.7134]
LOSS_AFTER = 0.3378

LAYERS = pytest.mark.parametrize(
    "layer_class", [kerasrnn.SimpleRNN, kerasrnn.LSTM, kerasrnn.GRU], ids=lambda c: c.__name__
)
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the tape is TensorFlow's"
)


def example() -> keras.Sequential:
    model = keras.Sequential([keras.Input((None, 4)), kerasrnn.SimpleRNN(3), keras.layers.Dense(4)])
    model.set_weights([*WEIGHTS.values(), DENSE_KERNEL, DENSE_BIAS])
    return model


def loss_of(logits) -> keras.KerasTensor:
    criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return criterion(np.array([TARGET]), logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_forward_pass_of_the_layer() -> None:
    model = example()
    rnn = kerasrnn.SimpleRNN(3, return_sequences=True)
    rnn.build(X.shape)
    rnn.set_weights(list(WEIGHTS.values()))

    logits = model(X)

    np.testing.assert_allclose(keras.ops.convert_to_numpy(rnn(X))[0], STATES, **AS_PRINTED)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(logits)[0], LOGITS, **AS_PRINTED)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    np.testing.assert_allclose(probabilities, PROBABILITIES, **AS_PRINTED)
    np.testing.assert_allclose(float(loss_of(logits)), LOSS, **AS_PRINTED)


def test_forward_pass_of_the_oracle() -> None:
    states, last, _ = loop.run(simple_rnn.step, X, [np.zeros((1, 3))], WEIGHTS)
    logits = last @ DENSE_KERNEL + DENSE_BIAS

    np.testing.assert_allclose(states[0], STATES, **AS_PRINTED)
    np.testing.assert_allclose(logits[0], LOGITS, **AS_PRINTED)
    np.testing.assert_allclose(softmax(logits)[0], PROBABILITIES, **AS_PRINTED)
    np.testing.assert_allclose(-np.log(softmax(logits)[0, TARGET]), LOSS, **AS_PRINTED)


@needs_tensorflow
def test_gradients_by_the_tape() -> None:
    import tensorflow as tf

    model = example()
    x = tf.constant(X, "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = model(x)
        loss = loss_of(logits)
    d_logits, dx, *d_weights = tape.gradient(loss, [logits, x, *model.trainable_variables])

    np.testing.assert_allclose(d_logits[0], D_LOGITS, **AS_PRINTED)
    # The tape has no da_t, but dx_t = da_t W^T.
    np.testing.assert_allclose(dx[0], D_INPUT_PARTS @ WEIGHTS["kernel"].T, rtol=0, atol=1e-4)
    expected = [*D_WEIGHTS.values(), D_DENSE_KERNEL, D_DENSE_BIAS]
    for actual, wanted in zip(d_weights, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, **AS_PRINTED)


@needs_tensorflow
def test_gradients_of_the_states_by_the_tape() -> None:
    import tensorflow as tf

    rnn, dense = example().layers
    states = [tf.zeros((1, 3))]
    with tf.GradientTape() as tape:
        tape.watch(states[0])
        for t in range(3):
            states.append(rnn(X[:, t : t + 1], initial_state=[states[-1]]))
        loss = loss_of(dense(states[-1]))
    for actual, wanted in zip(tape.gradient(loss, states), D_STATES, strict=True):
        np.testing.assert_allclose(actual[0], wanted, **AS_PRINTED)


def test_gradients_by_the_oracle() -> None:
    zeros = np.zeros((1, 3))
    states, last, _ = loop.run(simple_rnn.step, X, [zeros], WEIGHTS)
    d_logits = softmax(last @ DENSE_KERNEL + DENSE_BIAS) - np.eye(4)[TARGET]
    d_outputs = np.zeros_like(states)
    d_outputs[:, -1] = d_logits @ DENSE_KERNEL.T

    oracle = (simple_rnn.step, simple_rnn.step_backward)
    dx, (dh_0,), d_weights = loop.run_backward(*oracle, X, [zeros], WEIGHTS, d_outputs, [zeros])

    np.testing.assert_allclose(d_logits[0], D_LOGITS, **AS_PRINTED)
    np.testing.assert_allclose(d_outputs[0, -1], D_STATES[-1], **AS_PRINTED)
    np.testing.assert_allclose(dh_0[0], D_STATES[0], **AS_PRINTED)
    np.testing.assert_allclose(dx[0], D_INPUT_PARTS @ WEIGHTS["kernel"].T, rtol=0, atol=1e-4)
    for name, wanted in D_WEIGHTS.items():
        np.testing.assert_allclose(d_weights[name], wanted, **AS_PRINTED)
    np.testing.assert_allclose(last.T @ d_logits, D_DENSE_KERNEL, **AS_PRINTED)

    # dh_t is the gradient of the initial state of the sequence after step t.
    for t in (1, 2):
        _, (dh_t,), _ = loop.run_backward(
            *oracle, X[:, t:], [states[:, t - 1]], WEIGHTS, d_outputs[:, t:], [zeros]
        )
        np.testing.assert_allclose(dh_t[0], D_STATES[t], **AS_PRINTED)


@needs_tensorflow
def test_one_step_of_descent() -> None:
    import tensorflow as tf

    model = example()
    with tf.GradientTape() as tape:
        loss = loss_of(model(X))
    gradients = tape.gradient(loss, model.trainable_variables)
    keras.optimizers.SGD(1.0).apply(gradients, model.trainable_variables)

    logits = keras.ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(softmax(logits)[0], PROBABILITIES_AFTER, **AS_PRINTED)
    np.testing.assert_allclose(float(loss_of(logits)), LOSS_AFTER, **AS_PRINTED)
    assert LOSS_AFTER < LOSS


def random_layer(
    layer_class: type, features: int, units: int
) -> tuple[keras.Layer, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    layer = layer_class(units)
    layer.build((None, None, features))
    weights = [rng.normal(size=weight.shape).astype("float32") for weight in layer.weights]
    layer.set_weights(weights)
    return layer, weights


@LAYERS
def test_concatenation_is_a_sum_of_two_products(layer_class: type) -> None:
    _, (kernel, recurrent_kernel, _) = random_layer(layer_class, features=4, units=3)
    rng = np.random.default_rng(1)
    x, h = rng.normal(size=(2, 4)), rng.normal(size=(2, 3))
    np.testing.assert_allclose(
        np.hstack([x, h]) @ np.vstack([kernel, recurrent_kernel]),
        x @ kernel + h @ recurrent_kernel,
        rtol=1e-6,
        atol=1e-9,
    )


# Not GRU, whose reset gate comes between the two parts.
@pytest.mark.parametrize("layer_class", [kerasrnn.SimpleRNN, kerasrnn.LSTM])
def test_a_step_multiplies_the_concatenation(layer_class: type) -> None:
    layer, (kernel, recurrent_kernel, bias) = random_layer(layer_class, features=4, units=3)
    on_concatenation = layer_class(3)
    on_concatenation.build((None, None, 7))
    on_concatenation.set_weights(
        [np.vstack([kernel, recurrent_kernel]), np.zeros_like(recurrent_kernel), bias]
    )
    rng = np.random.default_rng(1)
    x, h = rng.normal(size=(2, 4)).astype("float32"), rng.normal(size=(2, 3)).astype("float32")
    # The cell state of LSTM is in no product.
    rest = [rng.normal(size=(2, 3)).astype("float32")] if layer_class is kerasrnn.LSTM else []

    wanted = layer(x[:, None], initial_state=[h, *rest])
    actual = on_concatenation(np.hstack([x, h])[:, None], initial_state=[np.zeros_like(h), *rest])

    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(actual), keras.ops.convert_to_numpy(wanted), atol=1e-6
    )


@LAYERS
def test_parameters_do_not_depend_on_the_number_of_steps(layer_class: type) -> None:
    expected = {kerasrnn.SimpleRNN: 24, kerasrnn.LSTM: 4 * 24, kerasrnn.GRU: 3 * 24 + 3 * 3}
    for steps in (3, 300):
        layer = layer_class(3)
        assert layer(np.zeros((1, steps, 4), "float32")).shape == (1, 3)
        assert layer.count_params() == expected[layer_class]


@LAYERS
def test_one_layer_reads_sequences_of_any_length(layer_class: type) -> None:
    layer = layer_class(3)
    for steps in (3, 300):
        assert layer(np.zeros((1, steps, 4), "float32")).shape == (1, 3)
    assert len(layer.weights) == 3
