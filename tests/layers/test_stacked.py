"""`StackedRNN` against the chain of built-in layers that its docstring describes."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerasrnn
from tests.catalogue import BY_NAME, ROWS
from tests.layers.stacks import (
    STACKS,
    last_steps,
    new_stack,
    random_states,
    randomize,
    sequences,
    state_sizes,
)
from tests.measure import (
    FIRST_BACKEND,
    MASKS,
    PRECISION,
    TIGHT,
    assert_same,
    assert_same_outputs,
    make_mask,
    measure,
    op_by_op,
    passing_masks,
    to_list,
)
from tests.oracles import loop as oracle_loop


@pytest.fixture(autouse=True)
def _op_by_op():
    """What is traced is tested in `test_in_graphs.py`."""
    with op_by_op():
        yield


class Chain(keras.layers.Layer):
    """Built-in layers, one after the other, with every option set explicitly."""

    def __init__(self, spec, residual, return_sequences):
        super().__init__(dtype=PRECISION)
        self.supports_masking = True
        self.residual, self.return_sequences = residual, return_sequences
        self.chain = []
        for n, (name, units, *both) in enumerate(spec):
            options = {
                "return_sequences": return_sequences or n < len(spec) - 1,
                "return_state": True,
                "dtype": PRECISION,
            }
            layer = BY_NAME[name].keras_layer(units, **options)
            layer = keras.layers.Bidirectional(layer, dtype=PRECISION) if both else layer
            self.chain.append(passing_masks(layer))
        self.sizes = [len(state_sizes([layer])) for layer in spec]

    def build(self, shape, initial_state_shape=None):
        for layer in self.chain:
            layer.build(shape)
            shape = (*shape[:2], layer.compute_output_shape(shape)[0][-1])
        self.built = True

    def call(self, sequences, initial_state=None, mask=None, training=False):
        x, finals, states = sequences, [], list(initial_state or [])
        for n, (layer, size) in enumerate(zip(self.chain, self.sizes, strict=True)):
            of_layer, states = states[:size] or None, states[size:]
            y, *new = layer(x, initial_state=of_layer, mask=mask)
            finals += new
            if self.residual and n > 0:
                below = x
                if n == len(self.chain) - 1 and not self.return_sequences:
                    ends = last_steps(mask, *x.shape[:2])
                    below = keras.ops.stack([x[row, end] for row, end in enumerate(ends)])
                y = y + below
            x = y
        return x, *finals


def twins(spec, residual, return_sequences):
    chain = Chain(spec, residual, return_sequences)
    stack = new_stack(spec, residual=residual, return_sequences=return_sequences, return_state=True)
    for layer in (chain, stack):
        layer.build((None, None, 3))
    randomize(chain)
    stack.set_weights(chain.get_weights())
    return stack, chain


# Values and gradients.


CHAINS = [
    ("gnmt", True, False),
    ("both", True, True),
    ("gnmt", True, True),
    ("three", True, False),
    ("mixed", False, False),
    ("one", False, True),
]


@pytest.mark.parametrize(
    ("name", "residual", "return_sequences"), CHAINS if FIRST_BACKEND else CHAINS[:1]
)
def test_equals_a_chain_of_keras_layers(name, residual, return_sequences):
    """Outputs, states and every gradient; masks of every kind; sequences and the last step."""
    x = sequences(dtype=PRECISION)
    stack, chain = twins(STACKS[name], residual, return_sequences)
    for kind in MASKS:
        mask = make_mask(kind, 4, 6)
        expected = measure(chain, x, mask=mask)
        assert_same(measure(stack, x, mask=mask, training=True), expected, TIGHT)
    assert_same_outputs(stack, expected, TIGHT, x, mask=mask)


@pytest.mark.parametrize("name", ["mixed", "gnmt"])
def test_initial_states_equal_those_of_a_chain(name):
    """One list, from the bottom up; a bidirectional layer's forward states first."""
    x, mask = sequences(dtype=PRECISION), make_mask("right", 4, 6)
    states = random_states(STACKS[name])
    stack, chain = twins(STACKS[name], name == "gnmt", True)
    assert stack.state_size == state_sizes(STACKS[name])
    actual = measure(stack, x, states, mask, training=True)
    assert_same(actual, measure(chain, x, states, mask), TIGHT)


@st.composite
def cases(draw):
    batch, time, features = (draw(st.integers(1, n)) for n in (4, 6, 3))
    residual, return_sequences = draw(st.booleans()), draw(st.booleans())
    depth = draw(st.integers(1, 3))
    widths = [2 * draw(st.integers(1, 2))] * depth
    if not residual:
        widths = [2 * draw(st.integers(1, 2)) for _ in range(depth)]
    spec = []
    for n, width in enumerate(widths):
        cell = draw(st.sampled_from(ROWS)).name
        both = draw(st.booleans()) and (return_sequences or not residual or n < depth - 1)
        spec.append((cell, width // 2, "both") if both else (cell, width))
    mask = draw(st.none() | st.lists(st.booleans(), min_size=batch * time, max_size=batch * time))
    return {
        "spec": tuple(spec),
        "shape": (batch, time, features),
        "mask": None if mask is None else np.array(mask).reshape(batch, time),
        "residual": residual,
        "return_sequences": return_sequences,
    }


def oracle_layer(row, layers, x, mask, return_sequences):
    """The oracle's loop in one or both directions: `(output, final states)`."""
    outputs, finals = [], []
    for go_backwards, layer in enumerate(layers):
        names = [weight.name for weight in layer.weights]
        every, last, states = oracle_loop.run(
            row.oracle.step,
            x,
            [np.zeros((len(x), *shape)) for shape in layer.cell.state_shapes],
            dict(zip(names, layer.get_weights(), strict=True)),
            mask=mask,
            go_backwards=bool(go_backwards),
            zero_output_for_mask=return_sequences and len(layers) == 2,
        )
        if return_sequences:
            last = every[:, ::-1] if go_backwards else every
        outputs.append(last)
        finals += states
    return np.concatenate(outputs, axis=-1), finals


@settings(max_examples=16 if FIRST_BACKEND else 4)
@given(cases())
def test_equals_a_chain_of_oracles(case):
    """Any depth, cells, directions, residual or not, any mask: values and states."""
    spec, residual, mask = case["spec"], case["residual"], case["mask"]
    x = np.random.default_rng(5).standard_normal(case["shape"]).astype(PRECISION)
    stack = new_stack(
        spec,
        {"bias_initializer": "random_normal"},
        residual=residual,
        return_sequences=case["return_sequences"],
        return_state=True,
    )
    actual = to_list(stack(x, mask=mask))
    assert [tuple(y.shape) for y in actual] == [
        tuple(shape) for shape in stack.compute_output_shape(x.shape)
    ]
    expected, finals = x, []
    for n, ((name, *_), layer) in enumerate(zip(spec, stack.layers, strict=True)):
        directions = [layer]
        if isinstance(layer, kerasrnn.Bidirectional):
            directions = [layer.forward_layer, layer.backward_layer]
        return_sequences = case["return_sequences"] or n < len(spec) - 1
        below = expected
        expected, states = oracle_layer(BY_NAME[name], directions, below, mask, return_sequences)
        finals += states
        if residual and n > 0:
            ends = last_steps(mask, *below.shape[:2])
            expected = expected + (
                below if return_sequences else below[np.arange(len(below)), ends]
            )
    for a, b in zip(actual, [expected, *finals], strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=TIGHT)


@pytest.mark.parametrize("name", ["three", "gnmt"])
def test_padding_has_no_effect(name):
    """A padded sequence has the results of the sequence without padding."""
    x, mask = sequences(dtype=PRECISION), make_mask("right", 4, 6)
    stack = new_stack(STACKS[name], residual=True, return_state=True)
    padded = [np.asarray(y) for y in stack(x, mask=mask)]
    for row, length in enumerate(mask.sum(axis=1)):
        alone = stack(x[row : row + 1, :length])
        for a, b in zip(padded, alone, strict=True):
            np.testing.assert_allclose(a[row : row + 1], np.asarray(b), rtol=0, atol=TIGHT)


def test_one_layer_given_several_times_is_several_layers():
    """The stack creates its layers from configurations: each has its own weights."""
    stack = kerasrnn.StackedRNN([kerasrnn.GRU(3)] * 3)
    stack(sequences())
    kernels = [np.asarray(layer.cell.recurrent_kernel) for layer in stack.layers]
    assert len(stack.weights) == 9
    for n in (1, 2):
        assert np.abs(kernels[n] - kernels[0]).max() > 1e-2
