"""Two problems of long-term memory, adding and copying: sequences, scores, predictions, gradients.

Adding: each step is a value in [0, 1] and a marker, set at two steps; the target is the sum of the
two marked values. Copying: ten symbols out of eight, blanks, then ten cues to repeat the symbols.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base.config import Config, ConfigError, Options
from kerasrnn.recipes.base.recipe import Data, Recipe

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

SYMBOLS = 8  # numbered 1 to 8; 0 is a blank, 9 is the cue to repeat them
COPIED = 10
TEST_SIZE = 1000
TEST_SEED = 1_000_003  # no seed of training data may equal it


class LongTermMemory(Recipe):
    """A recurrent network must carry information across many steps.

    A recipe implements `model`. Its options include `task`, "adding" or "copy", `steps` and
    `examples`.
    """

    input_help = "not supported; use --test"

    def load(self, config: Any, data_dir: str | None = None) -> Data:
        import tensorflow as tf

        if config.seed == TEST_SEED:
            raise ConfigError(
                f"seed={TEST_SEED}: expected another seed; the test sequences are drawn from this "
                "one."
            )
        make = adding if config.task == "adding" else copy
        train = make(config.examples, config.steps, config.seed)
        test = make(TEST_SIZE, config.steps, TEST_SEED)
        return Data(
            train=tf.data.Dataset.from_tensor_slices(train),
            test=tf.data.Dataset.from_tensor_slices(test),
            train_size=config.examples,
            test_size=TEST_SIZE,
            metadata={"task": config.task, "steps": config.steps},
        )

    def loss(self, config: Any) -> str:
        adding = config.task == "adding"
        return "mean_squared_error" if adding else "sparse_categorical_crossentropy"

    def fit_metrics(self, config: Any) -> tuple[str, ...]:
        return () if config.task == "adding" else ("accuracy",)

    def batches(
        self, dataset: "tf.data.Dataset", config: Any, training: bool = False
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        batches = dataset.batch(config.batch_size, drop_remainder=training)
        if config.task == "adding":
            return batches
        return batches.map(lambda x, y: (tf.one_hot(x, SYMBOLS + 2), y))

    def callbacks(
        self, config: Any, data: Data, folder: Path
    ) -> Sequence["keras.callbacks.Callback"]:
        """Record the gradient by distance from the loss, at the start and at four later epochs."""
        import keras

        from kerasrnn import diagnostics

        x, y = next(self.batches(data.test.take(16), config).as_numpy_iterator())
        flow = diagnostics.GradientFlow(
            x, y, every=max(1, config.epochs // 4), log_dir=folder / "tensorboard" / "gradients"
        )

        def draw(logs: Any) -> None:
            if flow.history:  # empty if a resumed run has no epoch left
                flow.draw(folder / "gradients.png")

        return [flow, keras.callbacks.LambdaCallback(on_train_end=draw)]

    def evaluate(
        self, model: "keras.Model", data: Data, config: Any, folder: Path
    ) -> dict[str, float]:
        import numpy as np

        batches = self.batches(data.test, config)
        expected = np.concatenate([y for _, y in batches.as_numpy_iterator()])
        predicted = model.predict(batches, verbose=0)
        draw_gradients(folder / "fresh_gradients.png", min(config.steps, 200))
        if config.task == "adding":
            return {"test_loss": float(((predicted - expected) ** 2).mean())}
        chosen = np.take_along_axis(predicted, expected[..., None], axis=-1)
        recalled = predicted[:, -COPIED:].argmax(axis=-1) == expected[:, -COPIED:]
        return {
            "test_loss": float(-np.log(chosen).mean()),
            "test_recalled": float(recalled.mean()),
        }

    def baselines(self, data: Data, config: Any) -> dict[str, float]:
        loss = 1 / 6
        if config.task == "copy":
            loss = COPIED * math.log(SYMBOLS) / (config.steps + 2 * COPIED)
        return {"baseline_no_memory_test_loss": loss}

    def parse_input(self, text: str) -> Any:
        raise ConfigError(
            f"{text!r}: {self.name} predicts only its own test sequences: see --test."
        )

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence["np.ndarray"],
        predict_options: Options,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        import keras
        import numpy as np

        batch = np.stack(inputs)
        if metadata["task"] == "adding":
            sums = (batch[..., 0] * batch[..., 1]).sum(axis=1)
            answers = model.predict(batch, verbose=0)[:, 0]
            return [f"{y:.3f} (expected {x:.3f})" for x, y in zip(sums, answers, strict=True)]
        probabilities = model.predict(keras.ops.one_hot(batch, SYMBOLS + 2), verbose=0)
        symbols = probabilities[:, -COPIED:].argmax(axis=-1)
        return [
            f"{' '.join(map(str, y))} (expected {' '.join(map(str, x[:COPIED]))})"
            for x, y in zip(batch, symbols, strict=True)
        ]

    def exports(
        self, model: "keras.Model", data: Data, config: Any
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        batches = [x for x, _ in self.batches(data.test, config).take(4).as_numpy_iterator()]
        # Batch and time must be dynamic.
        return {"model": (model, [*batches, batches[0][:1, : config.steps // 2]])}

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), steps=12, examples=64, units=8)


def draw_gradients(path: Path, steps: int) -> None:
    """Draw how gradients vanish, explode or are preserved in untrained networks.

    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks". The
    networks are SimpleRNNs whose recurrent kernels have the spectral radii 0.8 and 2.2, and LSTM
    and GRU whose initial memory spans up to the sequence length. A second panel shows the norms of
    the weight gradients before and after clipping.
    """
    import keras

    import kerasrnn
    from kerasrnn import diagnostics, zoo
    from kerasrnn.recipes.reporting import pictures

    def network(cell: str, **arguments: Any) -> Any:
        keras.utils.set_random_seed(0)  # independent of what was drawn before
        options = {
            "recurrent_initializer": keras.initializers.Orthogonal(arguments.pop("radius", 1.0)),
            **arguments,
        }
        model = zoo.many_to_one(
            zoo.Vectors(2, padding=None), zoo.Values(1), cell=cell, units=64, **options
        )
        return diagnostics.diagnose(model, x, y, loss="mean_squared_error")

    x, y = adding(32, steps, TEST_SEED)
    longest = max(steps, 3)
    lstm = kerasrnn.ChronoInitializer(longest, kerasrnn.LSTMCell.memory_signs, seed=0)
    gru = kerasrnn.ChronoInitializer(longest, kerasrnn.GRUCell.memory_signs, seed=0)
    figure = diagnostics.compare(
        {
            "SimpleRNN, radius 0.8": network("simple_rnn", radius=0.8),
            "SimpleRNN, radius 2.2": network("simple_rnn", radius=2.2),
            "LSTM": network("lstm", bias_initializer=lstm, unit_forget_bias=False),
            "GRU": network("gru", bias_initializer=gru),
        },
        clipnorm=1.0,
    )
    pictures.save(figure, path)


def adding(count: int, steps: int, seed: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Sequences `(count, steps, 2)` of values and markers, and their sums `(count, 1)`.

    Each half of a sequence has one marker.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    values = random.random((count, steps), dtype="float32")
    markers = np.zeros_like(values)
    first = random.integers(0, steps // 2, count)
    second = random.integers(steps // 2, steps, count)
    rows = np.arange(count)
    markers[rows, first] = markers[rows, second] = 1
    sums = values[rows, first] + values[rows, second]
    return np.stack([values, markers], axis=-1), sums[:, None]


def copy(count: int, steps: int, seed: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Sequences `(count, steps + 20)` of symbols, and the target at each step."""
    import numpy as np

    random = np.random.default_rng(seed)
    symbols = random.integers(1, SYMBOLS + 1, (count, COPIED))
    x = np.zeros((count, steps + 2 * COPIED), "int32")
    y = np.zeros_like(x)
    x[:, :COPIED] = symbols
    x[:, -COPIED - 1 :] = SYMBOLS + 1  # as in Bai et al.: the first cue ends the blanks
    y[:, -COPIED:] = symbols
    return x, y
