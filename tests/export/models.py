"""Models and inputs that the tests of the exports share."""

import keras
import numpy as np

import kerasrnn
from tests.measure import randomize


def batches():
    """Several batch sizes and lengths; padded, with gaps, and a row that is masked as a whole."""
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


def masked_model(row, bidirectional=False):
    layer = row.layer(5, return_sequences=True, dropout=0.3, recurrent_dropout=0.3)
    layer = kerasrnn.Bidirectional(layer) if bidirectional else layer
    model = keras.Sequential(
        [
            keras.Input((None, 3), name="steps"),
            keras.layers.Masking(),
            layer,
            row.layer(4),
            keras.layers.Dense(2, name="scores"),
        ]
    )
    randomize(model)
    return model


def sequential(*layers, shape=(None, 3)):
    """A model of random weights."""
    model = keras.Sequential([keras.Input(shape, name="steps"), *layers])
    randomize(model)
    return model
