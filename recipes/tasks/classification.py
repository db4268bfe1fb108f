"""Shared code of the classification recipes: scores, confusion matrix, most likely classes."""

import dataclasses
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import splits
from kerasrnn.recipes.base.config import Config, Options
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.tasks import tables, text
from kerasrnn.recipes.tasks.text_input import INPUT, TextInput
from kerasrnn.training.bucketing import bucketed
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

HELD_OUT = 0.2
"""The approximate fraction of the user's own texts that are test data."""

Examples = tuple[list[tuple[str, int]], list[tuple[str, int]], list[str]]
"""Training and test examples, each a text and the index of its class, and the classes."""


class Classification(Recipe):
    """A network that predicts one class for each example.

    `metadata["classes"]` contains the names of the classes. A recipe implements `load`, `model`,
    `batches`, `parse_input` and `probabilities`.
    """

    example_noun: ClassVar[str]
    """The noun for one example, such as "image", in the title of the confusion matrix."""

    @abstractmethod
    def probabilities(
        self, model: "keras.Model", inputs: Sequence[Any], metadata: Mapping[str, Any]
    ) -> "Sequence[np.ndarray] | np.ndarray":
        """The probabilities of the classes for each input of `predict`."""

    def title(self, config: Any) -> str:
        """The title of the confusion matrix."""
        return self.name.replace("_", " ").capitalize()

    def prediction_names(self, metadata: Mapping[str, Any]) -> list[str]:
        """The names of the classes in the output of `predict`."""
        return list(metadata["classes"])

    def axis_names(self, metadata: Mapping[str, Any]) -> list[str]:
        """The names of the classes in the confusion matrix."""
        return list(metadata["classes"])

    def scores(self, expected: "np.ndarray", probabilities: "np.ndarray") -> dict[str, float]:
        """The test metrics.

        Args:
            expected: `(examples,)`: the true classes.
            probabilities: `(examples, classes)`.
        """
        import numpy as np

        right = probabilities[np.arange(len(expected)), expected]
        return {
            "test_accuracy": float((probabilities.argmax(axis=-1) == expected).mean()),
            "test_loss": float(-np.log(right).mean()),
        }

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        from kerasrnn.recipes.reporting import pictures

        batches = self.batches(data.test, config).cache()
        expected = _targets(batches)
        probabilities = self.trained_model(model).predict(batches, verbose=0)
        metrics = self.scores(expected, probabilities)
        examples = counted(data.test_size, self.example_noun)
        pictures.confusion_matrix(
            expected,
            probabilities.argmax(axis=-1),
            self.axis_names(data.metadata),
            f"{self.title(config)}: {metrics['test_accuracy']:.1%} of {examples} correct",
            folder / "confusion_matrix.png",
        )
        return metrics

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        import numpy as np

        expected = _targets(self.batches(data.test, config))
        majority = float(np.bincount(expected).max() / len(expected))
        return {"baseline_majority_test_accuracy": majority}

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence[Any],
        predict_options: Options,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        names = self.prediction_names(metadata)
        return [most_likely(p, names) for p in self.probabilities(model, inputs, metadata)]

    def expected(self, data: Data, index: int, predict_options: Options) -> str:
        _, target = next(data.test.skip(index).as_numpy_iterator())
        return self.prediction_names(data.metadata)[int(target)]


class TextClassification(TextInput, Classification):
    """A network that predicts one class for each text.

    A recipe implements `examples` and `model`. Its options include `symbols`, `vocabulary` and
    `longest`. `metadata["numbers"]` is the result of `text.fitted`.
    """

    example_noun = "text"
    input_help = "texts, each in quotation marks"

    @abstractmethod
    def examples(self, config: Any, data_dir: str | None = None) -> Examples:
        """The training and test examples, and the names of the classes."""

    def load(self, config: Any, data_dir: str | None = None) -> Data:
        train, test, classes = self.examples(config, data_dir)
        texts = [x for x, _ in train]
        fit = text.fitted(config.symbols, texts, config.vocabulary)
        numbers = text.numbering(fit)
        return Data(
            train=_numbered(train, numbers, config.longest),
            test=_numbered(test, numbers, config.longest),
            train_size=len(train),
            test_size=len(test),
            metadata={"classes": classes, "numbers": fit},
            raw={
                "train_texts": texts,
                "train_labels": [y for _, y in train],
                "test_texts": [x for x, _ in test],
                "test_labels": [y for _, y in test],
            },
        )

    def vectorizer(self, metadata: Mapping[str, Any]) -> "keras.layers.Layer":
        return text.numbering(metadata["numbers"])

    def bundle(self, model: "keras.Model", config: Any, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.of_texts(model, {INPUT: self.vectorizer(data.metadata)}, config.longest)

    def batches(
        self, dataset: "tf.data.Dataset", config: Any, training: bool = False
    ) -> "tf.data.Dataset":
        lengths = [n for n in (8, 16, 32, 64, 128, 256) if n < config.longest]
        return bucketed(dataset, [*lengths, config.longest], config.batch_size, training)

    def scores(self, expected: "np.ndarray", probabilities: "np.ndarray") -> dict[str, float]:
        return f1_scores(expected, probabilities.argmax(axis=-1))

    def baselines(self, data: Data, config: Any) -> dict[str, float]:
        return {
            f"baseline_{name}_{metric}": value
            for name, predicted in baseline_predictions(data).items()
            for metric, value in f1_scores(data.raw["test_labels"], predicted).items()
        }

    def probabilities(
        self, model: "keras.Model", inputs: Sequence[str], metadata: Mapping[str, Any]
    ) -> "np.ndarray":
        import tensorflow as tf

        return model.predict(tf.constant(inputs), verbose=0)

    def example(self, data: Data, index: int) -> str:
        return data.raw["test_texts"][index]

    def exports(
        self, model: "keras.Model", data: Data, config: Any
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        of_numbers = super().exports(model, data, config)
        texts = np.array(data.raw["test_texts"], dtype=object)
        return {**of_numbers, "of_text": (model, [texts[:1], texts[:64]])}

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), units=8, embedding=8)


def most_likely(probabilities: Sequence[float], names: Sequence[str], count: int = 3) -> str:
    """Format the most likely classes."""
    ranked = sorted(zip(probabilities, names, strict=True), reverse=True)[:count]
    return ", ".join(f"{name}: {probability:.1%}" for probability, name in ranked)


def f1_scores(expected: Sequence[int], predicted: Sequence[int]) -> dict[str, float]:
    """F1, averaged over the classes with and without their sizes as weights, and the accuracy."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "test_f1_weighted": float(f1_score(expected, predicted, average="weighted")),
        "test_f1_macro": float(f1_score(expected, predicted, average="macro")),
        "test_accuracy": float(accuracy_score(expected, predicted)),
    }


def baseline_predictions(data: Data) -> dict[str, "np.ndarray"]:
    """The test classes as predicted by naive Bayes and by the majority class."""
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    raw = data.raw
    classifiers = {
        "naive_Bayes": make_pipeline(CountVectorizer(), MultinomialNB()),
        "majority": DummyClassifier(strategy="most_frequent"),
    }
    return {
        name: classifier.fit(raw["train_texts"], raw["train_labels"]).predict(raw["test_texts"])
        for name, classifier in classifiers.items()
    }


def read_labelled_texts(path: str) -> Examples:
    """Read the user's own texts; whether one is test data depends only on the text.

    Args:
        path: a file with rows of label and text: see `tables.read_rows`.

    Raises:
        DatasetError: the file cannot be read; a label occurs only once, or there is only one; no
            text has a word; or no texts are left for training or for testing.
    """
    rows = tables.read_rows(path, ("label", "text"))
    lines: dict[str, list[int]] = {}
    for line, (label, _) in rows:
        lines.setdefault(label, []).append(line)
    for label, (line, *more) in lines.items():
        if not more:
            raise DatasetError(
                f"{path}, line {line}: expected several texts of each label; found no other line "
                f"with {label!r}. Is it a header, or are the columns swapped?"
            )
    classes = sorted(lines)
    if len(classes) < 2:
        raise DatasetError(f"{path}: expected at least two labels; found {', '.join(classes)}.")
    train: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
    for _, (label, line) in rows:
        (test if splits.place(line) < HELD_OUT else train).append((line, classes.index(label)))
    if not any(re.search(r"[^\W_]{2}", line) for line, _ in train or test):
        raise DatasetError(
            f"{path}: expected texts with words; found no word of two letters or more."
        )
    splits.check_parts(path, {"training": train, "testing": test}, HELD_OUT, "text")
    return train, test, classes


def _targets(batches: "tf.data.Dataset") -> "np.ndarray":
    import numpy as np

    return np.concatenate([y for _, y in batches.as_numpy_iterator()])


def _numbered(
    examples: Sequence[tuple[str, int]], numbers: "keras.layers.Layer", longest: int
) -> "tf.data.Dataset":
    """`(ids, class)` of each text, truncated to `longest` symbols."""
    import tensorflow as tf

    def pair(line: Any, label: Any) -> Any:
        ids = tf.cast(numbers(line), "int32")[:longest]
        # A text without symbols is one step of padding.
        return tf.pad(ids, [[0, tf.maximum(1 - tf.size(ids), 0)]]), label

    texts, labels = zip(*examples, strict=True)
    return tf.data.Dataset.from_tensor_slices((list(texts), list(labels))).map(pair)
