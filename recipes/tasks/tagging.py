"""Shared code of the tagging recipes: a class for each character, which marks words and their tags.

A sentence is split into segments of limited length, each of which is tagged on its own. The tags
are decoded as the most likely consistent sequence: see `kerasrnn.recipes.tasks.segmentation`.
"""

import dataclasses
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks import segmentation, text
from kerasrnn.recipes.tasks.segmentation import TAGS, most_likely_tags
from kerasrnn.recipes.tasks.tagged_text import Line, read_lines
from kerasrnn.recipes.tasks.text import checked
from kerasrnn.recipes.tasks.text_input import TextInput
from kerasrnn.training.bucketing import bucketed

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

LENGTHS = (16, 32, 48, 64, 112)
"""Lengths that segments are padded to; the last one is the longest."""


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    data: str = options.option(
        "",
        "your own file: one sentence per line, words separated by spaces, each with an optional "
        "part of speech, as in word/n; the last tenth is test data",
    )
    parts_of_speech: bool = options.option(
        True, "also learn parts of speech, if the data has them; this improves the segmentation"
    )
    epochs: int = options.default("epochs", 6)
    batch_size: int = options.option(64, "segments of sentences per step", low=1)
    learning_rate: float = options.default("learning_rate", 3e-3)
    warmup: float = options.default("warmup", 0.1)
    cell: str = options.cell("lstm")
    embedding: int = options.option(64, "size of the character embeddings", low=1)
    bigrams: int = options.option(
        2,
        "minimum frequency of character bigrams with embeddings of their own; 0: no bigrams",
        low=0,
    )
    bigram_embedding: int = options.option(32, "size of the bigram embeddings", low=1)
    bigram_dropout: float = options.option(
        0.05, "fraction of the bigrams replaced by unknown in training", low=0.0, below=1.0
    )
    units: int = options.option(128, "units of each recurrent layer, per direction", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    dropout: float = options.option(0.5, "dropout rate", low=0.0, below=1.0)
    recurrent_dropout: float = options.option(
        0.0, "dropout rate of the recurrent state", low=0.0, below=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bigrams:
            self.refuse_ignored("bigrams=0", "bigram_embedding", "bigram_dropout")


@dataclass(frozen=True)
class PredictOptions(options.Options):
    """Options of the prediction."""

    parts: bool = options.option(False, "also print each word's part of speech, as in word/n")


class Tagging(TextInput):
    """A bidirectional network reads the characters and tags the beginnings and ends of words.

    If the data has parts of speech, each tag is combined with each of them. A recipe implements
    `lines`.
    """

    Config = Config
    PredictOptions = PredictOptions
    search_space: ClassVar = {
        "cell": space.choice("lstm", "gru"),
        "embedding": space.powers(32, 128),
        "bigrams": space.choice(0, 2, 3, 5),
        "bigram_embedding": space.powers(16, 64, given={"bigrams": (2, 3, 5)}),
        "bigram_dropout": space.floats(0.0, 0.2, given={"bigrams": (2, 3, 5)}),
        "units": space.powers(64, 256),
        "depth": space.integers(1, 2),
        "dropout": space.floats(0.2, 0.7),
        "recurrent_dropout": space.floats(0.0, 0.4),
        "learning_rate": space.floats(5e-4, 1e-2, log=True),
        **space.CLIPPING,
    }
    input_help = "sentences, each in quotation marks"

    @abstractmethod
    def lines(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[Line]]:
        """The sentences of `train`, `validation` and `test`."""

    def normalize(self, text: str) -> str:
        """Normalize a text as the data is. Applied to inputs and to the user's own data."""
        return text

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        import numpy as np

        import kerasrnn

        if config.data:
            splits = read_lines(config.data, self.normalize)
        else:
            splits = self.lines(config, data_dir)
        known = splits["train"] + splits["validation"]
        parts = sorted({part for line in known for part in line.parts})
        if not config.parts_of_speech:
            parts = []
        pieces = {name: [p for line in s for p in _cut(line.words)] for name, s in splits.items()}
        texts = {name: ["".join(words) for words in p] for name, p in pieces.items()}
        symbols = _seen_twice(texts["train"])
        if not symbols:
            raise DatasetError(f"{config.data}: expected characters that occur more than once.")
        metadata = {"vocabulary": symbols, "parts": parts}
        numbers = self.vectorizer(metadata)
        ids = {name: np.array(numbers(lines), "int32") for name, lines in texts.items()}
        datasets = {
            name: _numbered(ids[name], pieces[name], splits[name], parts) for name in splits
        }
        pairs = None
        if config.bigrams:
            pairs = kerasrnn.BigramEmbedding.frequent(ids["train"], config.bigrams)
            if not len(pairs):
                raise options.ConfigError(
                    f"bigrams={config.bigrams}: no pair in the training text occurs that often; "
                    "expected a lower number, or 0."
                )
        return Data(
            train=datasets["train"],
            test=datasets["test"],
            train_size=len(texts["train"]),
            test_size=len(splits["test"]),
            validation=datasets["validation"],
            validation_size=len(texts["validation"]),
            metadata=metadata,
            raw={
                "pairs": pairs,
                "usual_parts": _most_frequent_parts(splits["train"]) if parts else None,
                "train_words": {word for line in splits["train"] for word in line.words},
                "test": splits["test"],
            },
        )

    def vectorizer(self, metadata: Mapping[str, Any]) -> "keras.layers.Layer":
        return text.vectorizer(metadata["vocabulary"], split="character")

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        pairs: dict[str, Any] = {}
        if config.bigrams:
            pairs = {
                "bigrams": data.raw["pairs"],
                "bigram_units": config.bigram_embedding,
                "bigram_dropout": config.bigram_dropout,
            }
        return zoo.many_to_many(
            zoo.Tokens(len(data.metadata["vocabulary"]) + 2, config.embedding, **pairs),
            zoo.Classes(len(TAGS) * max(len(data.metadata["parts"]), 1)),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            bidirectional=True,
            dropout=config.dropout,
            recurrent_dropout=config.recurrent_dropout,
            name=self.name,
        )

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        return bucketed(dataset, LENGTHS, config.batch_size, training)

    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        lines = data.raw["test"]
        tagged = self.tag(model, data.metadata, ["".join(line.words) for line in lines])
        metrics = _scores(data, [line.words for line in tagged])
        if data.metadata["parts"]:
            metrics["test_tagged_f1"] = segmentation.tagged_f1(lines, tagged)
        return metrics

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        lines = data.raw["test"]
        sentences = ["".join(line.words) for line in lines]
        longest = segmentation.longest_match(sentences, data.raw["train_words"])
        metrics = _scores(data, longest)
        if data.metadata["parts"]:
            usual, commonest = data.raw["usual_parts"]
            guessed = [(words, [usual.get(w, commonest) for w in words]) for words in longest]
            metrics["test_tagged_f1"] = segmentation.tagged_f1(lines, guessed)
        return {f"baseline_longest_match_{name}": value for name, value in metrics.items()}

    def tag(
        self, model: "keras.Model", metadata: Mapping[str, Any], sentences: Sequence[str]
    ) -> list[Line]:
        """The words of sentences, and their parts of speech if the model predicts them."""
        import numpy as np

        numbers = self.vectorizer(metadata)
        pieces = [(n, piece) for n, s in enumerate(sentences) for piece in _cut(s)]
        texts = ["".join(piece) for _, piece in pieces]
        lines = [Line([], []) for _ in sentences]
        tagged: dict[int, Line] = {}
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        trained = self.trained_model(model)
        for start in range(0, len(order), 256):
            batch = order[start : start + 256]
            length = next(m for m in LENGTHS if m >= len(texts[batch[-1]]))
            ids = np.zeros((len(batch), length), "int32")
            for row, n in enumerate(batch):
                ids[row, : len(texts[n])] = np.array(numbers(texts[n]))
            found = [
                p[: len(texts[n])].reshape(len(texts[n]), len(TAGS), -1)
                for n, p in zip(batch, trained.predict_on_batch(ids), strict=True)
            ]
            tags_of = most_likely_tags([np.log(p.sum(axis=-1) + 1e-30) for p in found])
            for n, p, tags in zip(batch, found, tags_of, strict=True):
                words = segmentation.to_words(texts[n], tags)
                tagged[n] = Line(words, _most_probable_parts(p, words, tags, metadata["parts"]))
        for n, (sentence, _) in enumerate(pieces):
            lines[sentence].words.extend(tagged[n].words)
            lines[sentence].parts.extend(tagged[n].parts)
        return lines

    def parse_input(self, text: str) -> str:
        return self.normalize(checked(text, "a sentence").strip())

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence[str],
        predict_options: PredictOptions,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        if predict_options.parts and not metadata["parts"]:
            raise options.ConfigError(
                "parts=True: the model was trained without parts of speech; expected parts=False."
            )
        lines = self.tag(model, metadata, inputs)
        return [_described(line, predict_options.parts) for line in lines]

    def example(self, data: Data, index: int) -> str:
        return "".join(data.raw["test"][index].words)

    def expected(self, data: Data, index: int, predict_options: PredictOptions) -> str:
        return _described(data.raw["test"][index], predict_options.parts)

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        texts = ["".join(_cut(line.words)[0]) for line in data.raw["test"][:16]]
        return {
            **super().exports(model, data, config),
            "of_text": (model, [np.array(texts, dtype=object)]),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        classes = [
            f"{tag}-{part}" if part else tag for tag in TAGS for part in metadata["parts"] or [""]
        ]
        (name,) = self.trained_model(model).output_names
        return {**super().vocabulary(model, metadata), name: {"classes": classes}}

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=8, bigram_embedding=4, batch_size=4
        )


def _cut(words: Sequence[str]) -> list[list[str]]:
    return segmentation.segments(words, LENGTHS[-1])


def _numbered(
    ids: "np.ndarray", pieces: Sequence[Sequence[str]], lines: Sequence[Line], parts: Sequence[str]
) -> "tf.data.Dataset":
    """`(ids, classes)` of each segment.

    Args:
        ids: of the characters of each segment, padded with 0.
        pieces: the words of each segment.
        lines: the sentences, with the same characters in the same order.
        parts: the parts of speech that are combined with the tags; may be empty.
    """
    import numpy as np
    import tensorflow as tf

    rows = tf.RaggedTensor.from_tensor(ids, padding=0)
    letters = "".join(segmentation.to_tags(words) for words in pieces)
    targets = np.array([TAGS.index(letter) for letter in letters], "int32")
    if parts:
        # A part of speech that only the test lines have cannot be learned and is not a target.
        index = {part: n for n, part in enumerate(parts)}
        of_words = [index.get(part, 0) for line in lines for part in line.parts]
        lengths = [len(word) for line in lines for word in line.words]
        targets = targets * len(parts) + np.repeat(of_words, lengths).astype("int32")
    targets = tf.RaggedTensor.from_row_lengths(targets, rows.row_lengths())
    slices = tf.data.Dataset.from_tensor_slices((rows, targets))
    # A row is a tensor, although its specification is ragged.
    return slices.map(lambda row, target: (tf.identity(row), tf.identity(target)))


def _scores(data: Data, words: Sequence[Sequence[str]]) -> dict[str, float]:
    """The scores of the words of all test lines."""
    expected = [line.words for line in data.raw["test"]]
    scores = segmentation.score(expected, words, data.raw["train_words"])._asdict()
    # Without out-of-vocabulary words, their recall is undefined.
    return {f"test_{name}": value for name, value in scores.items() if value is not None}


def _most_frequent_parts(lines: Iterable[Line]) -> tuple[dict[str, str], str]:
    """Each word's most frequent part of speech, and the overall most frequent one."""
    of_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        for word, part in zip(*line, strict=True):
            of_word[word][part] += 1
    usual = {word: counts.most_common(1)[0][0] for word, counts in of_word.items()}
    return usual, sum(of_word.values(), Counter()).most_common(1)[0][0]


def _seen_twice(texts: Sequence[str]) -> list[str]:
    """The characters that occur more than once; the others train the unknown symbol."""
    counts = Counter("".join(texts))
    return [symbol for symbol in text.adapted(texts, split="character") if counts[symbol] > 1]


def _described(line: Line, parts: bool) -> str:
    """The words of a sentence, with their parts of speech if wanted."""
    return " ".join(map("/".join, zip(*line, strict=True)) if parts else line.words)


def _most_probable_parts(
    p: "np.ndarray", words: Sequence[str], tags: str, parts: Sequence[str]
) -> list[str]:
    """The part of speech of each word, from the probabilities of its characters.

    Args:
        p: `(characters, 4, parts)`.
        words: the words that the characters form.
        tags: the characters' tags.
        parts: the parts of speech to choose from; none: words have none.
    """
    import numpy as np

    if not parts:
        return []
    rows = [n for n, _ in enumerate(tags)]
    logs = np.log(p[rows, ["BMES".index(tag) for tag in tags]] + 1e-30)
    begins = np.cumsum([0, *map(len, words)])[:-1]
    return [parts[n] for n in np.add.reduceat(logs, begins).argmax(axis=-1)]
