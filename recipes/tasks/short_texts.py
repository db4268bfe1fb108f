"""Shared code of the language models of short texts: edges, lengths, continuation of a text."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks.language_model import LanguageModel, log_likelihood
from kerasrnn.training.bucketing import bucketed

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EDGE = "\n"


class ShortTexts(LanguageModel):
    """A character model of texts that each have a beginning and an end.

    A recipe implements `load`, with `short_texts`, and `evaluate`. Its options include `longest`,
    the largest number of characters of a text.
    """

    edge = EDGE
    noun: ClassVar[str]
    """The noun for one text, such as "molecule", in messages."""

    lengths: ClassVar[Sequence[int]] = (32, 36, 40, 44, 58, 80, 112, 160, 256, 512)
    """Lengths that texts are padded to, up to one more than the longest."""

    def short_texts(self, train: Sequence[str], test: Sequence[str], config: Any) -> Data:
        """The data of a recipe, without the texts that are too long.

        Raises:
            ConfigError: all training or test texts are too long.
        """
        train, test = ([x for x in part if len(x) <= config.longest] for part in (train, test))
        for purpose, texts in (("training", train), ("testing", test)):
            if not texts:
                raise ConfigError(
                    f"longest={config.longest}: expected {self.noun}s up to this length for "
                    f"{purpose}; found none."
                )
        counts = collections.Counter("".join(train))
        symbols = [EDGE, *(symbol for symbol, _ in counts.most_common())]
        return Data(
            train=_numbered(train, symbols),
            test=_numbered(test, symbols),
            train_size=len(train),
            test_size=len(test),
            metadata={"vocabulary": symbols, "longest": config.longest},
            raw={"train": train, "test": test},
        )

    def batches(
        self, dataset: "tf.data.Dataset", config: Any, training: bool = False
    ) -> "tf.data.Dataset":
        lengths = [n for n in self.lengths if n <= config.longest]
        return bucketed(dataset, [*lengths, config.longest + 1], config.batch_size, training)

    def nats(self, trained: "keras.Model", data: Data, config: Any) -> float:
        """The loss per character of the test texts, end symbols included."""
        total, count = 0.0, 0
        wide = dataclasses.replace(config, batch_size=max(config.batch_size, 256))
        for previous, following in self.batches(data.test, wide).as_numpy_iterator():
            likelihood = log_likelihood(trained.predict_on_batch(previous), following)
            total -= likelihood[following > 0].sum()
            count += int((following > 0).sum())
        return total / count

    def write(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        beginnings: Sequence[str],
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """Generate a text from each beginning, which may be empty.

        Raises:
            ConfigError: a beginning has a character that no training text has, or is longer than
                the longest of them may be.
        """
        from kerasrnn import decoding, zoo

        longest = metadata["longest"]
        for beginning in beginnings:
            for character in beginning:
                if character not in metadata["vocabulary"]:
                    known = "".join(sorted(metadata["vocabulary"])).strip()
                    raise ConfigError(
                        f"{beginning!r}: expected characters of the training {self.noun}s, "
                        f"{known}; found {character!r}."
                    )
            if len(beginning) > longest:
                raise ConfigError(
                    f"{beginning!r}: expected at most {longest} characters, the maximum length of "
                    f"a {self.noun}; found {len(beginning)}."
                )
        return zoo.continue_texts(
            model,
            beginnings,
            decoding.Sample(temperature),
            max_length=longest + 1,
            edge=EDGE,
            seed=seed,
            batch_size=512,
        )

    def numbering(self, model: "keras.Model") -> None:
        """None: unknown symbols are rejected."""

    def example(self, data: Data, index: int) -> str:
        """The first half of a test text."""
        line = data.raw["test"][index]
        return line[: len(line) // 2]

    def exports(
        self, model: "keras.Model", data: Data, config: Any
    ) -> dict[str, tuple["keras.Model", Sequence[Any] | bool]]:
        import numpy as np

        batches = [x for x, _ in self.batches(data.test, config).take(2).as_numpy_iterator()]
        lines = np.array([EDGE + line for line in data.raw["test"][:16]], dtype=object)
        ids = [*batches, batches[0][:1, :5]]
        return self.models_to_export(model, ids, [lines, lines[:1]])


def _numbered(texts: Sequence[str], symbols: Sequence[str]) -> "tf.data.Dataset":
    """`(previous ids, ids)` of each text, with start and end symbols."""
    import numpy as np
    import tensorflow as tf

    # Number all of them in one array and slice it: a layer would take a minute.
    codes = np.frombuffer(f"{EDGE}{EDGE.join(texts)}{EDGE}".encode("utf-32-le"), "<u4")
    points = np.array([ord(symbol) for symbol in symbols])
    order = np.argsort(points)
    place = np.minimum(np.searchsorted(points[order], codes), len(points) - 1)
    known = points[order][place] == codes
    ids = tf.constant(np.where(known, order[place] + 2, 1), "int32")
    edges = np.flatnonzero(codes == ord(EDGE))

    def pair(start: Any, end: Any) -> Any:
        return ids[start:end], ids[start + 1 : end + 1]

    return tf.data.Dataset.from_tensor_slices((edges[:-1], edges[1:])).map(pair)
