"""Where are the words? Chinese is written without spaces; a tag for each character cuts it.

Papers: Xue (2003), "Chinese word segmentation as character tagging", for the tags; Chen, Qiu, Zhu,
Liu & Huang (2015), "Long short-term memory neural networks for Chinese word segmentation", EMNLP,
for the network; Ma, Ganchev & Weiss (2018), "State-of-the-art Chinese word segmentation with
Bi-LSTMs", EMNLP, for what matters in it.

    kerasrnn train word_segmentation
    kerasrnn train word_segmentation --data mine.txt      (words apart by spaces, a sentence a line)
    kerasrnn predict word_segmentation "我喜欢看电视。"
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes import config as options
from kerasrnn.recipes import text
from kerasrnn.recipes.errors import DatasetError
from kerasrnn.recipes.lengths import bucketed
from kerasrnn.recipes.recipe import Data, Published, Recipe

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

LENGTHS = (16, 32, 48, 64, 112)
ENDS = "。！？；"
SHORTEST = 8  # characters before a piece may end, so that few are tiny
# The corpus is written in full width throughout, letters and numbers as well.
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}


@dataclass(frozen=True)
class Config(options.Config):
    """What varies."""

    data: str = options.option(
        "",
        "a file of your own instead: words apart by spaces, a sentence a line; its last tenth "
        "is test data",
    )
    epochs: int = options.option(8, "passes over the training data", low=1)
    batch_size: int = options.option(64, "pieces of sentences a step", low=1)
    learning_rate: float = options.option(3e-3, "highest learning rate", low=1e-6)
    warmup: float = options.option(
        0.05, "fraction of the steps in which the learning rate rises from zero", low=0.0, below=1.0
    )
    cell: str = options.option("lstm", "recurrent cell", choices=options.CELLS)
    embedding: int = options.option(64, "width of a character's vector", low=1)
    bigrams: int = options.option(
        3,
        "pairs of neighbouring characters that occur so often have vectors of their own; 0: none",
        low=0,
    )
    bigram_embedding: int = options.option(32, "width of a pair's vector", low=1)
    bigram_dropout: float = options.option(
        0.2, "fraction of the pairs taken for unknown in training", low=0.0, below=1.0
    )
    units: int = options.option(128, "width of a state in each direction", low=1)
    depth: int = options.option(1, "layers on top of each other", low=1)
    dropout: float = options.option(0.4, "fraction dropped in training", low=0.0, below=1.0)
    recurrent_dropout: float = options.option(
        0.0, "fraction of the state dropped from step to step in training", low=0.0, below=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bigrams:
            self.refuse_ignored("bigrams=0", "bigram_embedding", "bigram_dropout")


class WordSegmentation(Recipe):
    """A bidirectional network reads the characters and says which begin, fill and end words."""

    name = "word_segmentation"
    title = "Where are the words? Chinese, cut where its tags say"
    topology = "synced many-to-many, bidirectional"
    dataset = "peoples_daily"
    result = "not measured yet"
    protocol = (
        "The last tenth of the month's lines is the test data; the last twentieth of the others is "
        "validation data, by which the size, the dropout and the epochs were set. Words are scored "
        "as in the SIGHAN bakeoffs; out of vocabulary is what the training lines do not have. "
        "Tags that contradict each other are never put out: the likeliest sequence that does not "
        "is. Characters that the training text has once count as unknown, as those of the test "
        "text that it never has. Data: People's Daily, January 1998; it belongs to its publisher, "
        "is read from a package at run time and not kept here."
    )
    Config = Config
    variants: ClassVar = {
        "bidirectional LSTM": {},
        "bidirectional GRU": {"cell": "gru"},
        "bidirectional LSTM, no pairs": {"bigrams": 0},
    }
    metrics = ("test_f1", "test_precision", "test_recall", "test_oov_recall")
    asks = "sentences, each in quotation marks"
    published: ClassVar[Sequence[Published]] = ()

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        import tensorflow as tf

        import kerasrnn
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        splits = _own(config.data) if config.data else _tfds(self.dataset, data_dir)
        pieces = {name: [p for words in s for p in cut(words)] for name, s in splits.items()}
        texts = {name: ["".join(words) for words in p] for name, p in pieces.items()}
        symbols = _seen_twice(texts["train"])
        if not symbols:
            raise DatasetError(f"{config.data}: expected characters that occur more than once.")
        numbers = text.vectorizer(symbols, split="character")

        def dataset(name: str) -> "tf.data.Dataset":
            tags = [segmentation.to_tags(words) for words in pieces[name]]

            def pair(sentence: Any, tags: Any) -> Any:
                letters = tf.strings.bytes_split(tags)
                target = tf.reduce_sum(
                    [n * tf.cast(letters == t, "int32") for n, t in enumerate(segmentation.TAGS)],
                    axis=0,
                )
                return tf.cast(numbers(sentence), "int32"), target

            return tf.data.Dataset.from_tensor_slices((texts[name], tags)).map(pair)

        pairs = None
        if config.bigrams:
            index = {symbol: n for n, symbol in enumerate(symbols, start=2)}
            ids = ([index.get(symbol, 1) for symbol in line] for line in texts["train"])
            pairs = kerasrnn.BigramEmbedding.frequent(ids, config.bigrams)
            if not len(pairs):
                raise options.ConfigError(
                    f"bigrams={config.bigrams}: no pair of the training text occurs so often; "
                    "expected a lower number, or 0."
                )
        return Data(
            train=dataset("train"),
            test=dataset("test"),
            train_size=len(texts["train"]),
            test_size=len(splits["test"]),
            validation=dataset("validation"),
            validation_size=len(texts["validation"]),
            facts={"vocabulary": symbols},
            raw={
                "pairs": pairs,
                "train_words": {word for words in splits["train"] for word in words},
                "test": splits["test"],
            },
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        return zoo.many_to_many(
            zoo.Tokens(
                len(data.facts["vocabulary"]) + 2,
                config.embedding,
                bigrams=data.raw["pairs"],
                bigram_units=config.bigram_embedding,
                bigram_dropout=config.bigram_dropout,
            ),
            zoo.Classes(len(segmentation.TAGS)),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            bidirectional=True,
            dropout=config.dropout,
            recurrent_dropout=config.recurrent_dropout,
            name=self.name,
        )

    def finished(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        numbers = text.vectorizer(data.facts["vocabulary"], split="character")
        return text.attach(model, {"sequence": numbers})

    def core(self, model: "keras.Model") -> "keras.Model":
        return text.core(model)

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        return bucketed(dataset, LENGTHS, config.batch_size, training)

    def judge(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        vocabulary, expected = data.raw["train_words"], data.raw["test"]
        sentences = ["".join(words) for words in expected]
        metrics = {}
        longest = longest_match(sentences, vocabulary)
        for prefix, found in (
            ("test", self._segment(model, data.facts, sentences)),
            ("baseline_longest_match_test", longest),
        ):
            scores = segmentation.score(expected, found, vocabulary)._asdict()
            # There is no recall of words out of vocabulary where there are no such words.
            known = {name: value for name, value in scores.items() if value is not None}
            metrics |= {f"{prefix}_{name}": value for name, value in known.items()}
        return metrics

    def _segment(
        self, model: "keras.Model", facts: Mapping[str, Any], sentences: Sequence[str]
    ) -> list[list[str]]:
        import numpy as np

        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        numbers = text.vectorizer(facts["vocabulary"], split="character")
        pieces = [(n, piece) for n, s in enumerate(sentences) for piece in cut(s)]
        texts = ["".join(piece) for _, piece in pieces]
        words: list[list[str]] = [[] for _ in sentences]
        found: dict[int, list[str]] = {}
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        core = self.core(model)
        for start in range(0, len(order), 256):
            batch = order[start : start + 256]
            length = next(m for m in LENGTHS if m >= len(texts[batch[-1]]))
            ids = np.zeros((len(batch), length), "int32")
            for row, n in enumerate(batch):
                ids[row, : len(texts[n])] = np.array(numbers(texts[n]))
            for n, p in zip(batch, core.predict_on_batch(ids), strict=True):
                tags = likeliest(np.log(p[: len(texts[n])] + 1e-30))
                found[n] = segmentation.to_words(texts[n], tags)
        for n, (sentence, _) in enumerate(pieces):
            words[sentence] += found[n]
        return words

    def read(self, text: str) -> str:
        wide = text.strip().translate(WIDE)
        if not wide:
            raise DatasetError(f"{text!r}: expected a sentence; found none.")
        return wide

    def answer(
        self,
        model: "keras.Model",
        facts: Mapping[str, Any],
        inputs: Sequence[str],
        asking: options.Options,
        folder: Path,
    ) -> list[str]:
        return [" ".join(words) for words in self._segment(model, facts, inputs)]

    def example(self, data: Data, index: int) -> str:
        return "".join(data.raw["test"][index])

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        texts = ["".join(cut(words)[0]) for words in data.raw["test"][:16]]
        return {
            **super().exports(model, data, config),
            "of_text": (model, [np.array(texts, dtype=object)]),
        }

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=8, bigram_embedding=4, batch_size=4
        )


def cut(words: Sequence[str]) -> list[list[str]]:
    """Cut a sentence's words (or characters) into pieces of the longest length at most.

    Behind the end of a clause where there is one, so that what a piece needs is in it.
    """
    pieces: list[list[str]] = []
    piece: list[str] = []
    length = 0
    for word in words:
        # A word longer than a piece is no word; its parts are.
        for start in range(0, len(word), LENGTHS[-1]):
            part = word[start : start + LENGTHS[-1]]
            if length + len(part) > LENGTHS[-1]:
                pieces.append(piece)
                piece, length = [], 0
            piece.append(part)
            length += len(part)
        if word in ENDS and length >= SHORTEST:
            pieces.append(piece)
            piece, length = [], 0
    return [p for p in (*pieces, piece) if p]


def likeliest(scores: "np.ndarray") -> str:
    """The tags, out of all that do not contradict each other, with the highest sum of scores.

    Viterbi (1967). A word ends before one begins: E or S goes before B or S, and B or M before M
    or E; the first tag is B or S, the last E or S.

    Args:
        scores: `(characters, 4)`: log-probabilities of B, M, E and S.
    """
    import numpy as np

    impossible = -np.inf
    allowed = np.full((4, 4), impossible)  # from, to
    for before, after in ("BM", "BE", "MM", "ME", "EB", "ES", "SB", "SS"):
        allowed["BMES".index(before), "BMES".index(after)] = 0.0
    best = scores[0] + np.array([0.0, impossible, impossible, 0.0])
    came_from = []
    for row in scores[1:]:
        paths = best[:, None] + allowed
        came_from.append(paths.argmax(axis=0))
        best = paths.max(axis=0) + row
    tag = int((best + np.array([impossible, impossible, 0.0, 0.0])).argmax())
    tags = [tag]
    for pointers in reversed(came_from):
        tag = int(pointers[tag])
        tags.append(tag)
    return "".join("BMES"[tag] for tag in reversed(tags))


def longest_match(sentences: Iterable[str], vocabulary: set[str]) -> list[list[str]]:
    """From the left, always the longest word that is known: what a dictionary alone can do."""
    most = max(map(len, vocabulary))
    found = []
    for sentence in sentences:
        words, start = [], 0
        while start < len(sentence):
            ends = range(min(len(sentence), start + most), start, -1)
            end = next((e for e in ends if sentence[start:e] in vocabulary), start + 1)
            words.append(sentence[start:end])
            start = end
        found.append(words)
    return found


def _seen_twice(texts: Sequence[str]) -> list[str]:
    """The characters that occur more than once, so that the unknown one learns from the others."""
    from collections import Counter

    counts = Counter("".join(texts))
    return [symbol for symbol in text.adapted(texts, split="character") if counts[symbol] > 1]


def _tfds(name: str, data_dir: str | None) -> dict[str, list[list[str]]]:
    from kerasrnn.recipes import datasets

    splits, _ = datasets.load(name, ("train", "validation", "test"), data_dir)
    return {
        split: [[word.decode() for word in x["words"]] for x in dataset.as_numpy_iterator()]
        for split, dataset in splits.items()
    }


def _own(path: str) -> dict[str, list[list[str]]]:
    """A user's own sentences, in the order of the file: train, validation, test."""
    lines = [
        [word.translate(WIDE) for word in line.split()]
        for line in text.read_text(path).split("\n")
        if line.strip()
    ]
    test = len(lines) - len(lines) // 10
    validation = test - test // 20
    splits = {
        "train": lines[:validation],
        "validation": lines[validation:test],
        "test": lines[test:],
    }
    if not all(splits.values()):
        raise DatasetError(f"{path}: expected 20 sentences at least; found {len(lines)}.")
    return splits


RECIPE: Any = WordSegmentation()
