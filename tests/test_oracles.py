"""The oracles themselves: derivatives against finite differences, masks against hand computation.

What is checked here is what `docs/bptt.md` derives: a wrong sign there is a failing test here.
"""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.catalogue import BUILT_IN, PROBES, ROWS, Row, variant_id
from tests.measure import passing_masks, random_states
from tests.oracles import complex_step, loop
from tests.oracles.activations import relu, sigmoid

BATCH, TIME, FEATURES, UNITS = 2, 4, 3, 2


def options_of(row: Row) -> list[dict]:
    """The options that the oracle's step takes, besides the activations."""
    found = []
    for variant in row.variants:
        options = {**row.steady, **variant}
        taken = {name: value for name, value in options.items() if name in row.oracle_options}
        if taken not in found:
            found.append(taken)
    return found


CELLS = [(row, options) for row in ROWS for options in options_of(row)]
OF_KERAS = [(row, options) for row, options in CELLS if row in BUILT_IN]
WITH_ADJOINT = [(row, options) for row, options in CELLS if hasattr(row.oracle, "step_backward")]
# A first step that is masked, a masked step inside, and masked last steps.
MASK = np.array([[False, True, False, True], [True, True, False, False]])
LOOPS = [
    pytest.param({}, id="plain"),
    pytest.param({"go_backwards": True}, id="go_backwards"),
    pytest.param({"mask": MASK}, id="mask"),
    pytest.param({"mask": MASK, "zero_output_for_mask": True}, id="mask-zero_output"),
    pytest.param({"mask": MASK, "go_backwards": True}, id="mask-go_backwards"),
]
loops = pytest.mark.parametrize("loop_options", LOOPS)
biases = pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])


def arguments(row: Row, options: dict, use_bias: bool = True) -> tuple[np.ndarray, list, dict]:
    """Random float64 values for x, every initial state and every weight."""
    rng = np.random.default_rng(0)
    layer = row.layer(UNITS, **row.with_arguments(use_bias=use_bias), **options)
    layer.build((None, None, FEATURES))
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    states = random_states(layer, BATCH, rng)
    return x, states, {w.name: rng.normal(size=tuple(w.shape)) for w in layer.weights}


def factors(row: Row, options: dict, given: tuple) -> tuple[np.ndarray, list]:
    """Random gradients of the outputs and of the final states."""
    rng = np.random.default_rng(1)
    outputs, _, finals = loop.run(row.oracle.step, *given, **options)
    return rng.normal(size=outputs.shape), [rng.normal(size=s.shape) for s in finals]


def named(dx: np.ndarray, d_states: list, d_weights: dict) -> dict[str, np.ndarray]:
    return {"x": dx, **{f"state {n}": d for n, d in enumerate(d_states)}, **d_weights}


@pytest.mark.parametrize(("row", "options"), CELLS, ids=variant_id)
def test_complex_steps_equal_central_differences(row: Row, options: dict) -> None:
    """So every step is analytic: only then are complex steps derivatives.

    Each array is moved as a whole, in a random direction.
    """
    x, states, weights = arguments(row, options)
    d_outputs, d_finals = factors(row, options, (x, states, weights))
    derived = named(
        *complex_step.backward(
            row.oracle.step, x, states, weights, d_outputs, d_finals, mask=MASK, **options
        )
    )
    values = named(x, states, weights)
    assert derived.keys() == values.keys()

    def loss(values: dict[str, np.ndarray]) -> float:
        moved = [values[f"state {n}"] for n in range(len(states))]
        outputs, _, finals = loop.run(
            row.oracle.step,
            values["x"],
            moved,
            {name: values[name] for name in weights},
            mask=MASK,
            **options,
        )
        of_states = sum(np.sum(d * final) for d, final in zip(d_finals, finals, strict=True))
        return np.sum(d_outputs * outputs) + of_states

    epsilon, random = 1e-5, np.random.default_rng(2)
    for name, value in values.items():
        direction = random.normal(size=value.shape)
        above, below = (
            loss({**values, name: value + sign * epsilon * direction}) for sign in (1, -1)
        )
        slope = np.sum(derived[name] * direction)
        np.testing.assert_allclose(
            slope, (above - below) / (2 * epsilon), rtol=1e-6, atol=1e-8, err_msg=name
        )


@loops
@biases
@pytest.mark.parametrize(("row", "options"), WITH_ADJOINT, ids=variant_id)
def test_backward_equals_complex_steps(
    row: Row, options: dict, use_bias: bool, loop_options: dict
) -> None:
    """The adjoints that `docs/bptt.md` derives, to the last digits."""
    x, states, weights = arguments(row, options, use_bias)
    d_outputs, d_finals = factors(row, options, (x, states, weights))
    given = (x, states, weights, d_outputs, d_finals)
    derived = named(
        *loop.run_backward(
            row.oracle.step, row.oracle.step_backward, *given, **loop_options, **options
        )
    )
    measured = named(*complex_step.backward(row.oracle.step, *given, **loop_options, **options))
    assert derived.keys() == measured.keys()
    for name, expected in measured.items():
        np.testing.assert_allclose(derived[name], expected, rtol=1e-11, atol=1e-12, err_msg=name)


def test_complex_steps_of_the_other_activations() -> None:
    """Which compare complex numbers: by their real parts."""
    x = np.array([-2.0, -0.4, 0.3, 5.0])
    moved = x + 1j * complex_step.STEP
    for function, slopes in (
        (relu, [0, 0, 1, 1]),
        (lambda p: np.clip(p / 6 + 0.5, 0, 1), [1 / 6, 1 / 6, 1 / 6, 0]),
    ):
        np.testing.assert_allclose(function(moved).imag / complex_step.STEP, slopes, rtol=1e-14)


@pytest.mark.parametrize("row", PROBES, ids=variant_id)
def test_nothing_in_a_masked_step_matters(row: Row) -> None:
    options = options_of(row)[0]
    x, initial_states, weights = arguments(row, options)
    padded = np.where(MASK[:, :, None], x, np.nan)
    outputs, _, finals = loop.run(row.oracle.step, x, initial_states, weights, mask=MASK, **options)
    padded_outputs, _, _ = loop.run(
        row.oracle.step, padded, initial_states, weights, mask=MASK, **options
    )
    np.testing.assert_array_equal(padded_outputs, outputs)

    d_finals = [np.ones_like(final) for final in finals]
    given = (padded, initial_states, weights, np.ones_like(outputs), d_finals)
    gradients = [complex_step.backward(row.oracle.step, *given, mask=MASK, **options)]
    if hasattr(row.oracle, "step_backward"):
        steps = (row.oracle.step, row.oracle.step_backward)
        gradients.append(loop.run_backward(*steps, *given, mask=MASK, **options))
    for dx, d_states, d_weights in gradients:
        assert (dx[~MASK] == 0).all()
        assert all(np.isfinite(d).all() for d in [dx, *d_states, *d_weights.values()])


# The layout is the same on every backend. Before the first step used the outputs are not: there
# Keras has zeros on TensorFlow, which is the oracle's rule, and the initial state on JAX.
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the rule is TensorFlow's")
@loops
@biases
@pytest.mark.parametrize(("row", "options"), OF_KERAS, ids=variant_id)
def test_oracle_reads_the_weights_as_keras_does(
    row: Row, options: dict, use_bias: bool, loop_options: dict
) -> None:
    # A swapped pair of gates passes every test of derivatives; only the layout's owner can tell.
    x, initial_states, weights = arguments(row, options, use_bias)
    call_options = dict(loop_options)
    mask = call_options.pop("mask", None)
    layer = row.keras_layer(
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
        row.oracle.step, x, initial_states, weights, **loop_options, **options
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
    for page in ("bptt.md", "diagnostics.md"):
        document = (docs / page).read_text(encoding="utf-8")
        equations += re.findall(r"^\| \(([A-Z]\d+)\) \|", document, flags=re.MULTILINE)
    assert len(equations) == len(set(equations))

    cited_by_oracles = set()
    of_oracles = set((tests / "oracles").glob("*.py"))
    library = (tests.parent / "kerasrnn").rglob("*.py")
    for path in [*of_oracles, *library, *docs.glob("*.md")]:
        cited = set(re.findall(r"\(([A-Z]\d+)\)", path.read_text(encoding="utf-8")))
        assert cited <= set(equations), path.name
        if path in of_oracles:
            cited_by_oracles |= cited
    # (B1) defines the loss: nothing computes it. What is measured has no oracle of its own.
    unchecked = {"B1"} | {label for label in equations if label.startswith("D")}
    assert set(equations) - cited_by_oracles <= unchecked


def test_sigmoid() -> None:
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    expected = [0.0, 1 / (1 + np.exp(2.0)), 0.5, 1 / (1 + np.exp(-2.0)), 1.0]
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-14, atol=1e-300)
