"""`StackedRNN` with residual="glu" against the equations of its docstring, in NumPy."""

import keras
import numpy as np
import pytest
from scipy.special import erf, expit

import kerasrnn
from tests.catalogue import BY_NAME
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    make_mask,
    measure,
    op_by_op,
    randomize,
    to_list,
)
from tests.oracles import loop as oracle_loop

CASES = [(3, True), (4, False)]
# On TensorFlow, Keras holds the normalization's epsilon in float32; elsewhere all is in float32.
CLOSE = {"rtol": 1e-6, "atol": 1e-8} if FIRST_BACKEND else {"rtol": 1e-4, "atol": 1e-5}
first_backend = pytest.mark.skipif(
    not FIRST_BACKEND, reason="plain Keras layers around tested ones"
)


@pytest.fixture(autouse=True)
def _op_by_op():
    with op_by_op():
        yield


def sequences(features=3):
    return np.random.default_rng(0).standard_normal((4, 6, features)).astype(PRECISION)


def new_stack(names=("GRU", "SimpleRNN"), features=3, both=False, **options):
    layers = [BY_NAME[name].layer(4, dtype=PRECISION) for name in names]
    if both:
        layers = [kerasrnn.Bidirectional(layer, dtype=PRECISION) for layer in layers]
    stack = kerasrnn.StackedRNN(layers, residual="glu", dtype=PRECISION, **options)
    stack.build((None, None, features))
    randomize(stack)
    return stack


def weights_of(layer):
    return {w.name: keras.ops.convert_to_numpy(w) for w in layer.weights}


def last_used(x, mask):
    """The last step that is used, in each row; zeros if none is, whatever its padding contains."""
    rows = [steps[used] for steps, used in zip(x, mask, strict=True)]
    return np.stack([steps[-1] if len(steps) else np.zeros(x.shape[2]) for steps in rows])


def oracle(stack, names, x, mask, return_sequences):
    finals, projection = [], stack.projection
    if projection is not None:
        of = weights_of(projection)
        x = x @ of["kernel"] + of["bias"]
    for n, (name, layer, block) in enumerate(zip(names, stack.layers, stack.blocks, strict=True)):
        of = weights_of(block.normalization)
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        y, last, states = oracle_loop.run(
            BY_NAME[name].oracle.step,
            centred / scale * of["gamma"] + of["beta"],
            [np.zeros((len(x), *shape)) for shape in layer.cell.state_shapes],
            weights_of(layer),
            mask=mask,
        )
        if n == len(names) - 1 and not return_sequences:
            y, x = last, last_used(x, mask)
        finals += states
        of = weights_of(block.gate)
        y = y * (1 + erf(y / np.sqrt(2))) / 2
        x = x + y * expit(y @ of["kernel"] + of["bias"])
    return [x, *finals]


@pytest.mark.parametrize(("features", "return_sequences"), CASES if FIRST_BACKEND else CASES[:1])
def test_values_are_those_of_the_equations(features, return_sequences):
    """With a projection and without one; all steps and the last; masks with gaps."""
    names = ("GRU", "SimpleRNN")
    stack = new_stack(names, features, return_sequences=return_sequences, return_state=True)
    assert (stack.projection is None) == (features == 4)
    x, mask = sequences(features), make_mask("mixed", 4, 6)
    found = to_list(stack(x, mask=mask))
    for y, expected in zip(found, oracle(stack, names, x, mask, return_sequences), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(y), expected, **CLOSE)
    shapes = stack.compute_output_shape(x.shape)
    assert [tuple(y.shape) for y in found] == [tuple(shape) for shape in shapes]


@first_backend
def test_gradient_is_that_of_finite_differences():
    stack, x = new_stack(return_sequences=True), sequences()
    found = measure(stack, x, training=True)
    factor = np.random.default_rng(7).standard_normal((4, 6, 4))
    random = np.random.default_rng(8)
    direction = random.standard_normal(x.shape)

    def loss(x):
        return float((keras.ops.convert_to_numpy(stack(x)) * factor).sum())

    expected = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    assert (found.d_inputs * direction).sum() == pytest.approx(expected, rel=1e-6)
    weights = stack.get_weights()
    directions = [random.standard_normal(w.shape) for w in weights]
    losses = []
    for sign in (1, -1):
        stack.set_weights([w + sign * 1e-6 * d for w, d in zip(weights, directions, strict=True)])
        losses.append(loss(x))
    total = sum((g * d).sum() for g, d in zip(found.d_weights, directions, strict=True))
    assert total == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6)


@first_backend
def test_steps_are_those_of_the_sequence():
    stack = new_stack(("MinGRU", "LRU"), return_sequences=True)
    x, states = sequences(), stack.get_initial_state(4)
    expected = keras.ops.convert_to_numpy(stack(x))
    for time in range(x.shape[1]):
        y, states = stack.step(x[:, time], states)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(y), expected[:, time], **CLOSE)


@first_backend
def test_dropout_drops_what_a_block_adds():
    stack, x = new_stack(dropout=1 - 1e-7, return_sequences=True, seed=0), sequences()
    of = weights_of(stack.projection)
    found = keras.ops.convert_to_numpy(stack(x, training=True))
    np.testing.assert_allclose(found, x @ of["kernel"] + of["bias"], rtol=1e-9)


@first_backend
def test_a_saved_stack_computes_the_same(tmp_path):
    """Both directions, whose outputs have twice the width."""
    inputs = keras.Input((None, 3), dtype=PRECISION)
    model = keras.Model(inputs, new_stack(both=True, return_sequences=True)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = keras.ops.convert_to_numpy(model(sequences()))
    assert expected.shape == (4, 6, 8)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(sequences())), expected)


def test_impossible_blocks():
    layers = [kerasrnn.GRU(4)]
    with pytest.raises(ValueError, match="residual='gelu': expected False, True or 'glu'"):
        kerasrnn.StackedRNN(layers, residual="gelu")
    with pytest.raises(ValueError, match="residual='glu': the vector that a bidirectional last"):
        kerasrnn.StackedRNN([kerasrnn.Bidirectional(kerasrnn.GRU(4))], residual="glu")
    stack = kerasrnn.StackedRNN([kerasrnn.GRU(4), kerasrnn.GRU(5)], residual="glu", name="s")
    with pytest.raises(ValueError, match="s: residual='glu' adds the 4 features below layer 1 to"):
        stack.build((None, None, 3))
