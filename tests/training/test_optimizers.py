"""The optimizer: its schedule and clipping against closed forms."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn.training.optimizers import adamw

pytestmark = pytest.mark.tensorflow
ARGUMENTS = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}


def rate(built, step):
    """The learning rate of a step, counted from 0."""
    built.iterations.assign(step)
    return float(built.learning_rate)


@given(
    st.integers(1, 30),
    st.integers(1, 20),
    st.floats(0, 0.9),
    st.floats(1e-4, 1e-1),
    st.integers(0, 600),
)
def test_the_cosine_falls_to_zero_after_the_warmup(epochs, steps, warmup, highest, step):
    total = epochs * steps
    rising = round(warmup * total)
    step = min(step, total)
    if step < rising:
        expected = highest * step / rising
    else:
        expected = highest * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1))) / 2
    assert rate(adamw(total, highest, warmup=warmup), step) == pytest.approx(
        expected, rel=1e-4, abs=1e-8
    )


def test_the_cosine_at_known_steps():
    built = adamw(100, 0.4, warmup=0.2)
    expected = {0: 0.0, 5: 0.1, 10: 0.2, 20: 0.4, 60: 0.2, 100: 0.0}
    for step, value in expected.items():
        assert rate(built, step) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [(0.0, {0: 0.4, 7: 0.4, 100: 0.4}), (0.2, {0: 0.0, 5: 0.1, 20: 0.4, 21: 0.4, 100: 0.4})],
)
def test_the_constant_schedule(warmup, expected):
    built = adamw(100, 0.4, warmup=warmup, schedule="constant")
    for step, value in expected.items():
        assert rate(built, step) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("clipping", [*ARGUMENTS, "none"])
def test_adamw_has_one_kind_of_clipping(clipping):
    where = {} if clipping == "none" else {"clip_at": 0.7}
    built = adamw(1, clipping=clipping, weight_decay=0.03, **where)
    assert isinstance(built, keras.optimizers.AdamW)
    assert built.weight_decay == 0.03
    for name, argument in ARGUMENTS.items():
        assert getattr(built, argument) == (0.7 if name == clipping else None)


def clipped(gradients, clipping, at):
    if clipping == "value":
        return [np.clip(g, -at, at) for g in gradients]
    norms = [np.sqrt((g**2).sum()) for g in gradients]
    if clipping == "global_norm":
        norms = [np.sqrt(sum(n**2 for n in norms))] * len(gradients)
    if clipping == "none":
        norms = [0.0] * len(gradients)
    return [g * min(1.0, at / n) if n else g for g, n in zip(gradients, norms, strict=True)]


@pytest.mark.parametrize("clipping", [*ARGUMENTS, "none"])
def test_clipping_of_known_gradients(clipping):
    """AdamW's equations (Loshchilov & Hutter 2019, algorithm 2) after clipping, in NumPy.

    The gradients of the first step are large for one weight and small for the other; those of the
    second step are the opposite. The ratio of the steps depends on the kind of clipping.
    """
    lr, decay, at = 0.1, 0.05, 0.5
    steps = [
        [np.array([3.0, -4.0]), np.array([[0.1], [-0.3]])],
        [np.array([0.2, 0.1]), np.array([[2.0], [1.0]])],
    ]
    where = {} if clipping == "none" else {"clip_at": at}
    built = adamw(1, lr, weight_decay=decay, schedule="constant", clipping=clipping, **where)
    weights = [np.array([1.0, 2.0]), np.array([[-1.0], [0.5]])]
    variables = [keras.Variable(w) for w in weights]
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradients in enumerate(steps, start=1):
        tensors = [keras.ops.convert_to_tensor(g, "float32") for g in gradients]
        built.apply(tensors, variables)
        for n, g in enumerate(clipped(gradients, clipping, at)):
            first[n] = 0.9 * first[n] + 0.1 * g
            second[n] = 0.999 * second[n] + 0.001 * g**2
            m, v = first[n] / (1 - 0.9**t), second[n] / (1 - 0.999**t)
            weights[n] = weights[n] - lr * decay * weights[n] - lr * m / (np.sqrt(v) + 1e-8)
    for variable, expected in zip(variables, weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-4)
