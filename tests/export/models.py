"""Models and inputs that the tests of the exports share."""

import functools

import keras
import numpy as np

import kerasrnn
from tests.catalogue import PARTS, Row
from tests.measure import passing_masks, randomize


def batches():
    """Batches of several sizes and lengths: padded, with gaps, and with a fully masked row."""
    random = np.random.default_rng(0)
    found = []
    for batch, time in ((1, 1), (3, 7), (5, 3), (2, 4)):
        x = random.standard_normal((batch, time, 3)).astype("float32")
        if batch == 3:
            x[-1, 4:] = x[0, 2:4] = x[1, 0] = 0
        if batch == 5:
            x[2] = 0
        found.append(x)
    return found


def branches(layers, masked=True):
    """A model with random weights and an output for each list of layers, by the name of the list.

    One export of many branches takes less time than an export of each.
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
def model_of(part: tuple[Row, ...]) -> keras.Model:
    """A masked branch for each cell, by its name, with dropout.

    With the first part: a branch of Keras's layers, and a stack.
    """
    rates = {"dropout": 0.3, "recurrent_dropout": 0.3}
    layers = {
        row.name: [row.layer(4, return_sequences=True, **row.with_arguments(**rates))]
        for row in part
    }
    if part is PARTS[0]:
        keras_lstm = keras.layers.LSTM(4, return_sequences=True)
        layers["keras"] = [passing_masks(keras.layers.Bidirectional(keras_lstm))]
        layers["stacked"] = [kerasrnn.StackedRNN([kerasrnn.SimpleRNN(4)], return_sequences=True)]
    return branches(layers)


def sequential(*layers, shape=(None, 3)):
    """A model of random weights."""
    model = keras.Sequential([keras.Input(shape, name="steps"), *layers])
    randomize(model)
    return model
