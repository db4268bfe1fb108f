"""The oracles themselves: derivatives against finite differences, masks against hand computation.

What is checked here is what `docs/bptt.md` and `docs/cells.md` derive: a wrong sign there is a
failing test here.
"""

import re
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

from tests.measure import passing_masks
from tests.oracles import (
    gru,
    ind_rnn,
    layer_norm_lstm,
    loop,
    lstm,
    mgu,
    peephole_lstm,
    simple_rnn,
    ugrnn,
)
from tests.oracles.activations import sigmoid

BATCH, TIME, FEATURES, UNITS = 2, 4, 3, 2


def matrices(gates: int, biases: int = 1) -> dict[str, tuple[int, ...]]:
    """The shapes of a kernel, a recurrent kernel and a bias, in the order of Keras."""
    width = gates * UNITS
    return {
        "kernel": (FEATURES, width),
        "recurrent_kernel": (UNITS, width),
        "bias": (width,) if biases == 1 else (biases, width),
    }


LAYER_NORM = {
    "kernel_gamma": (4 * UNITS,),
    "recurrent_gamma": (4 * UNITS,),
    "state_gamma": (UNITS,),
    "state_beta": (UNITS,),
}

# (oracle, the weights' shapes, states, options)
BUILT_IN = [
    pytest.param(simple_rnn, matrices(1), 1, {}, id="simple_rnn"),
    pytest.param(lstm, matrices(4), 2, {}, id="lstm"),
    pytest.param(gru, matrices(3, biases=2), 1, {"reset_after": True}, id="gru-reset_after"),
    pytest.param(gru, matrices(3), 1, {"reset_after": False}, id="gru-reset_before"),
]
CELLS = [
    *BUILT_IN,
    pytest.param(
        peephole_lstm, matrices(4) | {"peephole_kernel": (3, UNITS)}, 2, {}, id="peephole_lstm"
    ),
    pytest.param(
        layer_norm_lstm, matrices(4) | LAYER_NORM, 2, {"epsilon": 0.01}, id="layer_norm_lstm"
    ),
    pytest.param(mgu, matrices(2), 1, {}, id="mgu"),
    pytest.param(ind_rnn, matrices(1) | {"recurrent_kernel": (UNITS,)}, 1, {}, id="ind_rnn"),
    pytest.param(ugrnn, matrices(2), 1, {}, id="ugrnn"),
]
# A first step that is masked, a masked step inside, and masked last steps.
MASK = np.array([[False, True, False, True], [True, True, False, False]])
LOOPS = [
    pytest.param({}, id="plain"),
    pytest.param({"go_backwards": True}, id="go_backwards"),
    pytest.param({"mask": MASK}, id="mask"),
    pytest.param({"mask": MASK, "zero_output_for_mask": True}, id="mask-zero_output"),
    pytest.param({"mask": MASK, "go_backwards": True}, id="mask-go_backwards"),
]


def arguments(
    shapes: dict[str, tuple[int, ...]], states: int, use_bias: bool
) -> dict[str, np.ndarray]:
    """Random float64 values for x, every initial state and every weight."""
    rng = np.random.default_rng(0)
    every = {"x": (BATCH, TIME, FEATURES)}
    every |= {f"initial_{k}": (BATCH, UNITS) for k in range(states)}
    every |= {name: shape for name, shape in shapes.items() if use_bias or name != "bias"}
    return {name: rng.normal(size=shape) for name, shape in every.items()}


def split_arguments(values: dict[str, np.ndarray]) -> tuple[np.ndarray, list, dict]:
    """Returns x, the initial states and the weights."""
    states = [value for name, value in values.items() if name.startswith("initial_")]
    weights = {
        name: value
        for name, value in values.items()
        if name != "x" and not name.startswith("initial_")
    }
    return values["x"], states, weights


@pytest.mark.parametrize("loop_options", LOOPS)
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize(("oracle", "shapes", "states", "options"), CELLS)
def test_backward_equals_central_differences(
    oracle: ModuleType, shapes: dict, states: int, options: dict, use_bias: bool, loop_options: dict
) -> None:
    values = arguments(shapes, states, use_bias)
    rng = np.random.default_rng(1)
    d_outputs = rng.normal(size=(BATCH, TIME, UNITS))
    d_final_states = [rng.normal(size=(BATCH, UNITS)) for _ in range(states)]

    def loss(values: dict[str, np.ndarray]) -> float:
        outputs, _, final_states = loop.run(
            oracle.step, *split_arguments(values), **loop_options, **options
        )
        on_states = sum(np.sum(d * s) for d, s in zip(d_final_states, final_states, strict=True))
        return np.sum(d_outputs * outputs) + on_states

    dx, d_states, d_weights = oracle.backward(
        *split_arguments(values), d_outputs, d_final_states, **loop_options, **options
    )
    derived = {"x": dx, **{f"initial_{k}": d for k, d in enumerate(d_states)}, **d_weights}
    assert derived.keys() == values.keys()

    epsilon = 1e-5
    for name, value in values.items():
        measured = np.zeros_like(value)
        for index in np.ndindex(*value.shape):
            shift = np.zeros_like(value)
            shift[index] = epsilon
            above, below = (
                loss({**values, name: value + shift}),
                loss({**values, name: value - shift}),
            )
            measured[index] = (above - below) / (2 * epsilon)
        np.testing.assert_allclose(derived[name], measured, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("oracle", "shapes", "states", "options"), CELLS)
def test_nothing_in_a_masked_step_matters(
    oracle: ModuleType, shapes: dict, states: int, options: dict
) -> None:
    x, initial_states, weights = split_arguments(arguments(shapes, states, True))
    padded = np.where(MASK[:, :, None], x, np.nan)
    d_outputs = np.ones((BATCH, TIME, UNITS))
    d_final_states = [np.ones((BATCH, UNITS))] * states

    outputs, _, _ = loop.run(oracle.step, x, initial_states, weights, mask=MASK, **options)
    padded_outputs, _, _ = loop.run(
        oracle.step, padded, initial_states, weights, mask=MASK, **options
    )
    np.testing.assert_array_equal(padded_outputs, outputs)

    dx, d_states, d_weights = oracle.backward(
        padded, initial_states, weights, d_outputs, d_final_states, mask=MASK, **options
    )
    assert (dx[~MASK] == 0).all()
    assert all(np.isfinite(d).all() for d in [dx, *d_states, *d_weights.values()])


# The layout is the same on every backend. Before the first step used the outputs are not: there
# Keras has zeros on TensorFlow, which is the oracle's rule, and the initial state on JAX.
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the rule is TensorFlow's")
@pytest.mark.parametrize("loop_options", LOOPS)
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize(("oracle", "shapes", "states", "options"), BUILT_IN)
def test_oracle_reads_the_weights_as_keras_does(
    oracle: ModuleType, shapes: dict, states: int, options: dict, use_bias: bool, loop_options: dict
) -> None:
    # A swapped pair of gates passes every test of derivatives; only the layout's owner can tell.
    x, initial_states, weights = split_arguments(arguments(shapes, states, use_bias))
    class_of = {
        simple_rnn: keras.layers.SimpleRNN,
        lstm: keras.layers.LSTM,
        gru: keras.layers.GRU,
    }
    call_options = dict(loop_options)
    mask = call_options.pop("mask", None)
    layer = class_of[oracle](
        UNITS,
        use_bias=use_bias,
        return_sequences=True,
        return_state=True,
        dtype="float64",
        **call_options,
        **options,
    )
    passing_masks(layer)
    layer.build(x.shape)
    layer.set_weights(list(weights.values()))
    expected = layer(x, initial_state=initial_states, mask=mask)

    outputs, _, final_states = loop.run(
        oracle.step, x, initial_states, weights, **loop_options, **options
    )
    for actual, wanted in zip([outputs, *final_states], expected, strict=True):
        np.testing.assert_allclose(actual, keras.ops.convert_to_numpy(wanted), rtol=1e-10)


def tally(x: np.ndarray, states: list, weights: dict, *, scale: float = 10.0) -> tuple:
    """A cell whose results are read off by eye: its state is a running sum."""
    total = states[0] + x
    return scale * total, [total]


# One sequence of one feature, 1 2 4 8, from the state 100. Each case: the mask (T: to be used),
# the options, the outputs divided by ten, the final state.
@pytest.mark.parametrize(
    ("mask", "options", "outputs", "final_state"),
    [
        pytest.param(None, {}, [101, 103, 107, 115], 115, id="no mask"),
        pytest.param("TTTT", {}, [101, 103, 107, 115], 115, id="all used"),
        pytest.param("TTFF", {}, [101, 103, 103, 103], 103, id="padded on the right"),
        pytest.param("FFTT", {}, [0, 0, 104, 112], 112, id="padded on the left"),
        pytest.param("FTFT", {}, [0, 102, 102, 110], 110, id="holes"),
        pytest.param("FFFF", {}, [0, 0, 0, 0], 100, id="none used"),
        pytest.param(
            "TTFF", {"zero_output_for_mask": True}, [101, 103, 0, 0], 103, id="zeros on the right"
        ),
        pytest.param(
            "FTFT", {"zero_output_for_mask": True}, [0, 102, 0, 110], 110, id="zeros in holes"
        ),
        pytest.param(None, {"go_backwards": True}, [108, 112, 114, 115], 115, id="backwards"),
        pytest.param("TTFF", {"go_backwards": True}, [0, 0, 102, 103], 103, id="backwards, padded"),
        pytest.param(
            "FTTF",
            {"go_backwards": True, "zero_output_for_mask": True},
            [0, 104, 106, 0],
            106,
            id="backwards, zeros",
        ),
    ],
)
def test_mask_rule(mask: str | None, options: dict, outputs: list[int], final_state: int) -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1)
    if mask is not None:
        options = {**options, "mask": np.array([[letter == "T" for letter in mask]])}

    actual, last_output, states = loop.run(tally, x, [np.full((1, 1), 100.0)], {}, **options)

    assert actual[0, :, 0].tolist() == [10 * value for value in outputs]
    assert last_output.tolist() == [[10 * outputs[-1]]]
    assert [state.tolist() for state in states] == [[[final_state]]]


def test_mask_belongs_to_each_sequence() -> None:
    x = np.array([[1.0, 2.0], [4.0, 8.0]])[:, :, None]
    mask = np.array([[True, False], [False, True]])
    outputs, last_output, states = loop.run(tally, x, [np.zeros((2, 1))], {}, mask=mask)
    assert outputs[:, :, 0].tolist() == [[10, 10], [0, 80]]
    assert last_output.tolist() == [[10], [80]]
    assert states[0].tolist() == [[1], [8]]


def test_options_reach_the_step() -> None:
    outputs, _, _ = loop.run(tally, np.ones((1, 2, 1)), [np.zeros((1, 1))], {}, scale=3.0)
    assert outputs[0, :, 0].tolist() == [3, 6]


def test_every_label_cited_is_an_equation_of_the_documents() -> None:
    tests = Path(__file__).parent
    docs = tests.parent / "docs"
    equations = []
    for page in ("bptt.md", "cells.md", "diagnostics.md"):
        document = (docs / page).read_text(encoding="utf-8")
        equations += re.findall(r"^\| \(([A-Z]\d+)\) \|", document, flags=re.MULTILINE)
    assert len(equations) == len(set(equations))

    cited_by_oracles = set()
    for path in [*(tests / "oracles").glob("*.py"), *docs.glob("*.md")]:
        cited = set(re.findall(r"\(([A-Z]\d+)\)", path.read_text(encoding="utf-8")))
        assert cited <= set(equations), path.name
        if path.suffix == ".py":
            cited_by_oracles |= cited
    # (B1) defines the loss: nothing computes it. What is measured has no oracle of its own.
    unchecked = {"B1"} | {label for label in equations if label.startswith("D")}
    assert set(equations) - cited_by_oracles <= unchecked


def test_sigmoid() -> None:
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    expected = [0.0, 1 / (1 + np.exp(2.0)), 0.5, 1 / (1 + np.exp(-2.0)), 1.0]
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-14, atol=1e-300)
