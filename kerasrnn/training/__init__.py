"""The training loop: resumable, on one or several devices, for any Keras model.

Keras's `fit` starts each call from the first batch. This loop can be stopped at any step, by
Ctrl-C, SIGTERM or a crash, and ends with the same weights as an uninterrupted one:

1. A function builds the model, on the devices of a `Placement`. A `TrainingModel` around it
   computes the step. The loss and the gradients do not depend on how a batch is split among devices
   or into parts.
2. The last checkpoint in the folder, if any, restores weights, optimizer, random states, metrics
   and the position in the data. `Batches` have the same order after each start.
3. A `Loop` runs the steps, and validates after each epoch. Checkpoints are written after each epoch
   and every few minutes, atomically. `Progress` reports the steps.
4. A loss or a gradient that is not finite ends the training with a `DivergenceError`, which names
   the step and the first layer or variable concerned. The weights remain those before the step.
5. At the end, the model has the weights of the last epoch or of the best one, as chosen by `keep`.

The folder contains `checkpoint/`, `log.csv` with the metrics of each epoch and, if requested,
`tensorboard/`. The loop runs on TensorFlow.

>>> import keras, numpy as np, tempfile, kerasrnn
>>> x = np.random.default_rng(0).standard_normal((64, 5, 2)).astype("float32")
>>> y = x.sum(axis=(1, 2))
>>> def build():
...     return keras.Sequential([keras.Input((5, 2)), kerasrnn.GRU(8), keras.layers.Dense(1)])
>>> batches = kerasrnn.training.Batches.from_arrays((x, y), batch_size=16, held_out=16)
>>> with tempfile.TemporaryDirectory() as folder:
...     model, log = kerasrnn.training.fit(build, batches, "mse", folder, epochs=2)
>>> [sorted(row) for row in log[:1]]
[['epoch', 'learning_rate', 'loss', 'seconds', 'val_loss']]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "averaging": ["average_weights"],
        "batches": ["Batches"],
        "bucketing": ["bucketed"],
        "errors": ["BatchError", "CheckpointError", "DivergenceError", "ExecutionError"],
        "fitting": ["Training", "fit"],
        "interruption": ["Interrupted"],
        "optimizers": ["AdamW", "adamw"],
        "placement": ["Placement"],
        "progress": ["Progress"],
    },
)
