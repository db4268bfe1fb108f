"""Training steps as one XLA program with static shapes, as a TPU requires.

A TPU runs only what XLA compiles, with shapes that are known in advance, and without calls to the
host. The tests read the program that XLA makes of a step on the CPU, before any optimization.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import decoding, zoo
from kerasrnn.training.optimizers import adamw
from kerasrnn.training.step import Signals, TrainingModel

pytestmark = pytest.mark.tensorflow

BATCH, TIME = 4, 6
CLASSES = 5


def tokens(*shape):
    """Ids; the last ones of each row are padding."""
    ids = np.random.default_rng(0).integers(1, CLASSES, shape)
    ids[:, -2:] = 0
    return ids


def vectors(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


MODELS = {
    "one_to_one": (
        lambda: zoo.one_to_one(zoo.Vectors(3), zoo.Classes(CLASSES), hidden=[4], dropout=0.1),
        (vectors(BATCH, 3), tokens(BATCH, 3)[:, 0]),
    ),
    "one_to_many": (
        lambda: zoo.one_to_many(zoo.Vectors(3), zoo.Classes(CLASSES), cell="gru", units=4),
        ((vectors(BATCH, 3), tokens(BATCH, TIME)), tokens(BATCH, TIME)),
    ),
    "many_to_one": (
        lambda: zoo.many_to_one(
            zoo.Tokens(9, 4),
            zoo.Classes(CLASSES),
            units=4,
            bidirectional=True,
            dropout=0.1,
        ),
        (tokens(BATCH, TIME), tokens(BATCH, 3)[:, 0]),
    ),
    "many_to_many": (
        lambda: zoo.many_to_many(
            zoo.Tokens(9, 4), zoo.Classes(CLASSES), cell="layer_norm_lstm", units=4
        ),
        (tokens(BATCH, TIME), tokens(BATCH, TIME)),
    ),
    "next_step": (
        lambda: zoo.next_step(zoo.Classes(CLASSES), units=4, stateful=True, batch_size=BATCH),
        (tokens(BATCH, TIME), tokens(BATCH, TIME)),
    ),
    "encoder_decoder": (
        lambda: zoo.encoder_decoder(
            zoo.Tokens(9, 4),
            zoo.Classes(CLASSES),
            cell="gru",
            units=4,
            bidirectional=True,
            attention="bahdanau",
        ),
        ((tokens(BATCH, TIME), tokens(BATCH, TIME)), tokens(BATCH, TIME)),
    ),
    "encoder_decoder, input feeding": (
        lambda: zoo.encoder_decoder(
            zoo.Tokens(9, 4),
            zoo.Classes(CLASSES),
            units=4,
            attention="luong",
            input_feeding=True,
            sampling=decoding.ScheduledSampling("linear", slope=0.1, floor=0.5),
        ),
        ((tokens(BATCH, TIME), tokens(BATCH, TIME)), tokens(BATCH, TIME)),
    ),
}


COMPILED = "many_to_many"
"""The model whose program is also compiled and run, which takes as long as all else of its test."""


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_one_program(name):
    make, (x, y) = MODELS[name]
    model = TrainingModel(make(), Signals(), by_xla=True)
    model.compile(adamw(10, warmup=0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batch = keras.tree.map_structure(tf.constant, (x, y))
    model.prepare(tf.data.Dataset.from_tensors(batch))
    step = tf.function(model.train_step, jit_compile=True)
    program = step.experimental_get_compiler_ir(batch)(stage="hlo")
    # Bounded dimensions, and calls to the host.
    assert not re.search(r"\[[^\]]*<=", program)
    for foreign in ("infeed", "outfeed", "callback", "send(", "recv("):
        assert foreign not in program
    if name != COMPILED:
        return
    before = [np.array(weight) for weight in model.trainable_weights]
    for _ in range(3):
        logs = step(batch)
    assert np.isfinite(float(logs["loss"]))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.abs(np.array(weight) - old).max() > 0, weight.path
