"""Cells compared with those of torchrecurrent, another library of published recurrent networks.

Its matrices are transposed, and its input part and recurrent part have a bias each.
"""

import numpy as np
import pytest

import kerasrnn
from tests.measure import PRECISION, TIGHT, op_by_op

pytestmark = pytest.mark.torch

UNITS, FEATURES = 4, 3


def joined(*blocks):
    return np.concatenate(blocks, axis=-1)


def usual(w, u, b, c):
    """Both have the same blocks, and the two biases of each are added."""
    return [w, u, b + c]


def gates_first(w, u, b, c):
    """The candidate is the first block there, and has no recurrent part."""
    candidate, *gates = np.split(w, w.shape[-1] // UNITS, axis=-1)
    w = joined(*gates, candidate)
    if len(b) == len(c):  # a candidate without a bias
        return [w, u, b + c]
    return [w, u, joined(b[UNITS:] + c, b[:UNITS])]


def gates_alone(w, u, b, c):
    """The candidate has a bias there alone: zeros."""
    return [w, u, b[: 2 * UNITS] + c]


def reading_inputs_alone(w, u, b, c):
    """z has no recurrent part; the bias of the candidate is outside the inner tanh."""
    return [w, u, b + np.pad(c, (UNITS, 0))]


def of_encoder(w, u, b, c, gate):
    return [w, u, joined(c, b), gate]


# The layer, its name there, and its weights from those there.
PEERS = {
    "JANET": ("JANET", usual),
    "LiGRU": ("LiGRU", usual),
    "MUT1": ("MUT1", reading_inputs_alone),
    "MUT2": ("MUT2", usual),
    "MUT3": ("MUT3", usual),
    "STAR": ("STAR", gates_first),
    "RAN": ("RAN", gates_first),
    "MinimalRNN": ("MinimalRNN", of_encoder),
    "BRC": ("BR", gates_alone),
    "NBRC": ("NBR", gates_alone),
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_torchrecurrent(name):
    """The outputs of all steps and the final states, from given states."""
    torch = pytest.importorskip("torch")
    torchrecurrent = pytest.importorskip("torchrecurrent")
    theirs, weights_of = PEERS[name]
    random = np.random.default_rng(0)
    cell = getattr(torchrecurrent, f"{theirs}Cell")(FEATURES, UNITS, dtype=torch.float64)
    values = {}
    for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_mm"):
        if hasattr(cell, key):
            value = random.standard_normal(getattr(cell, key).shape)
            if key == "bias_ih" and weights_of in (gates_alone, reading_inputs_alone):
                value[2 * UNITS :] = 0
            getattr(cell, key).data = torch.from_numpy(value)
            values[key] = value.T
    layer = getattr(kerasrnn, name)(
        UNITS, return_sequences=True, return_state=True, dtype=PRECISION
    )
    layer.build((None, None, FEATURES))
    layer.set_weights(weights_of(*values.values()))

    x = random.standard_normal((2, 5, FEATURES))
    start = random.standard_normal((len(layer.state_size), 2, UNITS))
    state = [torch.from_numpy(s) for s in start]
    if name == "JANET":
        state *= 2  # c and h, which are equal
    state = tuple(state) if len(state) > 1 else state[0]
    expected = []
    for t in range(x.shape[1]):
        state = cell(torch.from_numpy(x[:, t]), state)
        expected.append((state[0] if isinstance(state, tuple) else state).detach().numpy())
    finals = state if len(start) > 1 else [expected[-1]]
    with op_by_op():
        outputs, *states = layer(x, initial_state=list(start))
    np.testing.assert_allclose(outputs, np.stack(expected, axis=1), rtol=0, atol=TIGHT)
    for a, b in zip(states, finals, strict=True):
        b = b if isinstance(b, np.ndarray) else b.detach().numpy()
        np.testing.assert_allclose(a, b, rtol=0, atol=TIGHT)


# Of a layer with options: the options there, and the weights from those there, by name. (NAS adds
# there where TensorFlow's cell, whose figures kinships/test_gated.py has, multiplies.)
FURTHER = [
    ("FastRNN", {}, {}, lambda v: [*usual(*parts(v)), v["alpha"][0], v["beta"][0]]),
    (
        "FastGRNN",
        {},
        {"nonlinearity": "sigmoid"},
        lambda v: [*usual(*parts(v)), v["zeta"][0], v["nu"][0]],
    ),
    (
        "AntisymmetricRNN",
        {"step_size": 0.5, "diffusion": 0.2},
        {"epsilon": 0.5, "gamma": 0.2},
        lambda v: usual(*parts(v)),
    ),
    (
        "AntisymmetricRNN",
        {"gated": True, "step_size": 0.5, "diffusion": 0.2},
        {"epsilon": 0.5, "gamma": 0.2},
        lambda v: reading_inputs_alone(*parts(v)),
    ),
    (
        "MultiplicativeLSTM",
        {},
        {"recurrent_bias": False},
        lambda v: [
            v["weight_ih"],
            joined(v["weight_hh"], v["weight_mh"]),
            v["bias_ih"] + np.pad(v["bias_mh"], (UNITS, 0)),
        ],
    ),
]


def parts(values):
    keys = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [values[key] for key in keys if key in values]


@pytest.mark.parametrize(("name", "options", "their_options", "weights_of"), FURTHER)
def test_further_cells_equal_torchrecurrent(name, options, their_options, weights_of):
    """The states after three steps, from given states."""
    torch = pytest.importorskip("torch")
    torchrecurrent = pytest.importorskip("torchrecurrent")
    theirs = f"{'Gated' if options.get('gated') else ''}{name}Cell"
    random, values = np.random.default_rng(0), {}
    known = getattr(torchrecurrent, theirs)(FEATURES, UNITS, dtype=torch.float64, **their_options)
    for key, parameter in known.named_parameters():
        value = random.standard_normal(parameter.shape)
        parameter.data = torch.from_numpy(value)
        values[key] = value.T
    cell = getattr(kerasrnn, f"{name}Cell")(UNITS, dtype=PRECISION, **options)
    cell.build((None, FEATURES))
    cell.set_weights(weights_of(values))
    states = list(random.standard_normal((len(cell.state_names), 2, UNITS)))
    state = tuple(torch.from_numpy(s) for s in states)
    for _ in range(3):
        x = random.standard_normal((2, FEATURES))
        _, states = cell(x, states)
        state = known(torch.from_numpy(x), state if len(state) > 1 else state[0])
        state = state if isinstance(state, tuple) else (state,)
        for a, b in zip(states, state, strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=TIGHT)
