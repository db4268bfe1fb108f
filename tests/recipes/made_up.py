"""The stand-in for the data of `japanese_vowels`, and for its model."""

import dataclasses
import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasrnn import recipes
from kerasrnn.recipes.base.config import Config
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.training.loop import Loop


def utterances(count, seed):
    """Three speakers, each with a mean of his own."""
    random = np.random.default_rng(seed)
    for n in range(count):
        speaker = n % 3
        length = random.integers(7, 30)
        frames = random.standard_normal((length, 12)).astype("float32") * 0.3
        frames[:, speaker] += 2.0
        yield frames, speaker


def dataset(count, seed):
    signature = (tf.TensorSpec((None, 12), tf.float32), tf.TensorSpec((), tf.int64))
    return tf.data.Dataset.from_generator(
        lambda: utterances(count, seed), output_signature=signature
    ).apply(tf.data.experimental.assert_cardinality(count))


def data() -> Data:
    return Data(
        train=dataset(60, 0).cache(),
        test=dataset(31, 1).cache(),
        train_size=60,
        test_size=31,
        metadata={
            "mean": [0.0] * 12,
            "deviation": [1.0] * 12,
            "classes": ["speaker_1", "speaker_2", "speaker_3"],
        },
    )


def light_model(recipe: Any, config: Config, data: Data) -> keras.Model:
    """A model that is traced in a quarter of the time of a recurrent one.

    Its dropout has random states, and its layers the names of the recipe's inputs and outputs.
    """
    inputs = keras.Input((None, 12), name="frames")
    dropped = keras.layers.Dropout(config.dropout)(inputs)
    mean = keras.layers.GlobalAveragePooling1D()(dropped)
    classes = len(data.metadata["classes"])
    outputs = keras.layers.Dense(classes, activation="softmax", name="speaker")(mean)
    return keras.Model(inputs, outputs, name=recipe.name)


def recipe(light: bool = False) -> Any:
    """`japanese_vowels` with the stand-ins, in a process without other tests."""
    found = recipes.load("japanese_vowels")
    type(found).load = lambda self, config, data_dir=None: data()
    if light:
        type(found).model = light_model
    return found


def slow_down() -> None:
    """Pause before each step, for the seconds of the environment variable SECONDS_A_STEP."""
    original = Loop.train

    def train(self: Loop, batches: Any, steps: int) -> int:
        time.sleep(float(os.environ.get("SECONDS_A_STEP", "0")))
        return original(self, batches, steps)

    Loop.train = train


def small(**overrides: Any) -> Config:
    base = recipes.load("japanese_vowels").Config()
    return dataclasses.replace(base, units=8, **{"epochs": 4, "batch_size": 15, **overrides})
