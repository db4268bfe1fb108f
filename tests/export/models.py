"""Models and inputs that the tests of the exports share."""

import functools

import keras
import numpy as np

from tests.catalogue import ROWS
from tests.measure import randomize


def batches():
    """Batches of several sizes and lengths: padded, with gaps, and with a fully masked row."""
    random = np.random.default_rng(0)
    found = []
    for batch, time in ((1, 1), (3, 7), (5, 12), (2, 4)):
        x = random.standard_normal((batch, time, 3)).astype("float32")
        if batch == 3:
            x[-1, 4:] = x[0, 2:4] = x[1, 0] = 0
        if batch == 5:
            x[2] = 0
        found.append(x)
    return found


def branches(layers, masked=True):
    """A model with random weights and an output for each list of layers, by the name of the list.

    An export takes about as long of one branch as of many: tests share it.
    """
    steps = keras.Input((None, 3), name="steps")
    outputs = {}
    for name, of_branch in layers.items():
        x = keras.layers.Masking()(steps) if masked else steps
        for layer in of_branch:
            x = layer(x)
        outputs[name] = x
    model = keras.Model(steps, outputs)
    for n, layer in enumerate(model.layers):
        randomize(layer, seed=n)  # tf2onnx merges layers that are equal
    return model


@functools.cache
def every_cell():
    """A masked branch for each cell, by its name, with dropout."""
    options = {"return_sequences": True, "dropout": 0.3, "recurrent_dropout": 0.3}
    return branches({row.name: [row.layer(4, **options)] for row in ROWS})


def sequential(*layers, shape=(None, 3)):
    """A model of random weights."""
    model = keras.Sequential([keras.Input(shape, name="steps"), *layers])
    randomize(model)
    return model
