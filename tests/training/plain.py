"""A training of a Keras model on arrays, without a recipe, also in separate processes."""

import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import training
from kerasrnn.training.loop import Loop

EPOCHS, BATCH, EXAMPLES, HELD_OUT = 3, 8, 32, 8
STEPS = (EXAMPLES - HELD_OUT) // BATCH


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Sequences, and the sum of the last entries of each."""
    x = np.random.default_rng(0).standard_normal((EXAMPLES, 6, 3)).astype("float32")
    return x, x[:, -1].sum(axis=1)


def build() -> keras.Model:
    """A small model with dropout, so that its random states matter."""
    pooling = keras.layers.GlobalAveragePooling1D()
    layers = [keras.layers.Dropout(0.2), pooling, keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((None, 3)), *layers])


def fitted(folder: Path, **options: Any) -> tuple[keras.Model, Any]:
    """Train the model, or resume its training."""
    keras.utils.set_random_seed(0)
    batches = training.Batches.from_arrays(arrays(), BATCH, held_out=HELD_OUT)
    options = {"epochs": EPOCHS, "metrics": ["mae"], "keep": "best", **options}
    return training.fit(build, batches, "mse", folder, **options)


def main(folder: str, killed_after: int | None = None) -> None:
    """Train with a checkpoint after each step, and save the weights.

    Args:
        folder: of the training.
        killed_after: the step after which the process kills itself, before its checkpoint.
    """
    original = Loop.train

    def train(self: Loop, batches: Any, steps: int) -> int:
        done = original(self, batches, steps)
        if int(self.model.optimizer.iterations) == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Loop.train = train
    model, _ = fitted(Path(folder), checkpoint_minutes=0.0)
    np.savez(Path(folder) / "weights.npz", *model.get_weights())
