"""Stacks of layers in short notation, their weights and their states."""

import numpy as np

import kerasrnn
from tests.catalogue import BY_NAME
from tests.measure import PRECISION

# A stack in short: (cell, units), or (cell, units, "both") for a bidirectional layer.
STACKS = {
    "one": (("LSTM", 5),),
    "mixed": (("GRU", 5), ("LSTM", 4)),
    "three": (("SimpleRNN", 6), ("GRU", 6), ("LSTM", 6)),
    "gnmt": (("LSTM", 3, "both"), ("GRU", 6), ("LSTM", 6)),
    "both": (("SimpleRNN", 4), ("GRU", 2, "both"), ("LSTM", 2, "both")),
}


def sequences(batch=4, time=6, features=3, dtype="float32"):
    return np.random.default_rng(0).standard_normal((batch, time, features)).astype(dtype)


def new_layers(spec, **options):
    layers = []
    for name, units, *both in spec:
        layer = BY_NAME[name].layer(units, **options)
        dtype = options.get("dtype")
        layers.append(kerasrnn.Bidirectional(layer, dtype=dtype) if both else layer)
    return layers


def new_stack(spec, layer_options=None, **options):
    dtype = options.setdefault("dtype", PRECISION)
    layers = new_layers(spec, **{"dtype": dtype, **(layer_options or {})})
    return kerasrnn.StackedRNN(layers, **options)


def randomize(layer):
    random = np.random.default_rng(1)
    layer.set_weights([0.5 * random.standard_normal(w.shape) for w in layer.get_weights()])


def state_sizes(spec):
    return [
        units
        for name, units, *both in spec
        for _ in range((1 + len(both)) * len(BY_NAME[name].cell.state_names))
    ]


def random_states(spec, batch=4, dtype=PRECISION):
    random = np.random.default_rng(3)
    return [random.standard_normal((batch, units)).astype(dtype) for units in state_sizes(spec)]


def last_steps(mask, batch, time):
    """For each sequence the last step that is used; the last of all if none is."""
    if mask is None:
        return [time - 1] * batch
    return [max(np.flatnonzero(used), default=time - 1) for used in mask]
