"""Who is speaking? Nine men say two Japanese vowels; name the speaker.

Paper: Kudo, Toyama & Shimbo (1999), "Multidimensional curve classification using passing-through
regions", Pattern Recognition Letters 20. Its split: 270 utterances to train on, 370 to judge by.

    kerasrnn train japanese_vowels --cell gru
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes import config as options
from kerasrnn.recipes.recipe import Data, Recipe

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

LENGTH = 29  # frames of the longest utterance: the one static shape that XLA compiles for
COEFFICIENTS = 12


@dataclass(frozen=True)
class Config(options.Config):
    """What varies."""

    epochs: int = options.option(80, "passes over the training data", low=1)
    batch_size: int = options.option(30, "utterances a step", low=1)
    learning_rate: float = options.option(3e-3, "highest learning rate", low=1e-6)
    cell: str = options.option("lstm", "recurrent cell", choices=("simple_rnn", "lstm", "gru"))
    units: int = options.option(64, "width of a state", low=1)
    depth: int = options.option(1, "layers on top of each other", low=1)
    bidirectional: bool = options.option(False, "read in both directions")
    dropout: float = options.option(0.3, "fraction dropped in training", low=0.0, below=1.0)


class JapaneseVowels(Recipe):
    """A recurrent network reads the frames; its last state names the speaker."""

    name = "japanese_vowels"
    title = "Who is speaking? Nine men, two vowels"
    topology = "many-to-one"
    dataset = "japanese_vowels"
    result = "test accuracy 98.4 % with LSTM and GRU (median of five seeds), in 10 s"
    protocol = (
        "The authors' split: trained on all 270 training utterances for a fixed number of epochs, "
        "judged once on the 370 test utterances; no checkpoint, epoch or option was chosen by the "
        "test data. Always naming the most frequent speaker is right for 23.8 % of them. Data: UCI "
        "Machine Learning Repository, doi 10.24432/C5NS47, CC BY 4.0; it is read from a package at "
        "run time and not kept here."
    )
    Config = Config
    variants: ClassVar = {
        "SimpleRNN": {"cell": "simple_rnn"},
        "LSTM": {"cell": "lstm"},
        "GRU": {"cell": "gru"},
        "Bidirectional LSTM": {"cell": "lstm", "bidirectional": True},
    }
    metric = "test_accuracy"
    loss = "sparse_categorical_crossentropy"

    def load(self, data_dir: str | None = None) -> Data:
        import numpy as np
        import tensorflow_datasets as tfds

        import kerasrnn.recipes.datasets  # noqa: F401  (registers the builder)

        splits, info = tfds.load(
            self.dataset, data_dir=data_dir, as_supervised=True, with_info=True
        )
        frames = np.concatenate([x for x, _ in tfds.as_numpy(splits["train"])])
        return Data(
            train=splits["train"],
            test=splits["test"],
            train_size=info.splits["train"].num_examples,
            test_size=info.splits["test"].num_examples,
            facts={
                "mean": frames.mean(axis=0).tolist(),
                "deviation": frames.std(axis=0).tolist(),
                "classes": info.features["speaker"].names,
            },
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.many_to_one(
            COEFFICIENTS,
            len(data.facts["classes"]),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            mean=data.facts["mean"],
            deviation=data.facts["deviation"],
            input_name="frames",
            output_name="speaker",
            name=self.name,
        )

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, drop_remainder: bool = False
    ) -> "tf.data.Dataset":
        shapes = ([LENGTH, COEFFICIENTS], [])
        return dataset.padded_batch(config.batch_size, shapes, drop_remainder=drop_remainder)

    def judge(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        import numpy as np

        from kerasrnn.recipes import pictures

        batches = self.batches(data.test, config)
        loss, accuracy = model.evaluate(batches, verbose=0)
        expected = np.concatenate([y for _, y in batches.as_numpy_iterator()])
        predicted = model.predict(batches, verbose=0).argmax(axis=-1)
        pictures.confusion_matrix(
            expected,
            predicted,
            [name.removeprefix("speaker_") for name in data.facts["classes"]],
            f"Japanese vowels: {accuracy:.1%} of {data.test_size} utterances",
            folder / "confusion_matrix.png",
        )
        return {"test_accuracy": accuracy, "test_loss": loss}

    def read(self, path: Path) -> "np.ndarray":
        import numpy as np

        from kerasrnn.recipes.datasets.sources import DatasetError

        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} cannot be read: {error}.") from None
        rows = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            values = line.replace(",", " ").split()
            if len(values) != COEFFICIENTS:
                raise DatasetError(
                    f"{path}, line {number}: expected {COEFFICIENTS} coefficients; found "
                    f"{len(values)}."
                )
            try:
                row = [float(value) for value in values]
            except ValueError as error:
                raise DatasetError(f"{path}, line {number}: {error}.") from None
            if not np.all(np.isfinite(row)):
                raise DatasetError(f"{path}, line {number}: expected finite numbers; found {line}.")
            rows.append(row)
        if not rows:
            raise DatasetError(f"{path}: expected at least one frame; found none.")
        return np.array(rows, "float32")

    def answer(self, model: "keras.Model", inputs: Sequence["np.ndarray"]) -> list[str]:
        answers = []
        for frames in inputs:
            probabilities = model.predict(frames[None], verbose=0)[0]
            best = probabilities.argsort()[::-1][:3]
            answers.append(
                ", ".join(f"speaker {index + 1}: {probabilities[index]:.1%}" for index in best)
            )
        return answers


RECIPE: Any = JapaneseVowels()
