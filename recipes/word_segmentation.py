"""Chinese word segmentation: one tag per character marks the word boundaries.

Papers: Xue (2003), "Chinese word segmentation as character tagging", for the tags; Ng & Low (2004),
"Chinese part-of-speech tagging: one-at-a-time or all-at-once? Word-based or character-based?",
EMNLP, for learning the parts of speech with them; Chen, Qiu, Zhu, Liu & Huang (2015), "Long
short-term memory neural networks for Chinese word segmentation", EMNLP, for the network; Ma,
Ganchev & Weiss (2018), "State-of-the-art Chinese word segmentation with Bi-LSTMs", EMNLP, for the
important design choices.

    kerasrnn train word_segmentation
    kerasrnn train word_segmentation --data mine.txt      (words separated by spaces)
    kerasrnn predict word_segmentation "我喜欢看电视。" --parts
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.lengths import bucketed
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.text import checked

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

LENGTHS = (16, 32, 48, 64, 112)
ENDS = "。！？；"
SHORTEST = 8  # minimum length of a segment, so that few are tiny
# The corpus uses full-width characters throughout, including letters and digits.
TAGGED = re.compile(r"(.+)/([A-Za-z]+)")
TAG = re.compile(r"O|[BIESLUM]-\S+|[BMES]")
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}


class Line(NamedTuple):
    """A sentence: its words, and their parts of speech, or none if unknown."""

    words: list[str]
    parts: list[str]


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
    epochs: int = options.option(6, "passes over the training data", low=1)
    batch_size: int = options.option(64, "segments of sentences per step", low=1)
    learning_rate: float = options.option(3e-3, "peak learning rate", low=1e-6)
    warmup: float = options.option(
        0.1,
        "fraction of the steps over which the learning rate warms up from zero",
        low=0.0,
        below=1.0,
    )
    cell: str = options.option("lstm", "recurrent cell", choices=options.CELLS)
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


class WordSegmentation(Recipe):
    """A bidirectional network reads the characters and tags the beginnings and ends of words."""

    name = "word_segmentation"
    dataset = "peoples_daily"
    card = Card(
        title="Chinese word segmentation and part-of-speech tagging",
        topology="synced many-to-many, bidirectional",
        result=(
            "word F1 0.962 with GRU, 0.960 with LSTM (means of three seeds), in 8 minutes; longest "
            "match: 0.916"
        ),
        protocol=(
            "The last tenth of the month's lines is the test data; the last twentieth of the "
            "remaining lines is the validation data, on which size, dropout and epochs were tuned. "
            "Words are scored as in the SIGHAN bakeoffs; a word is out of vocabulary if it does "
            "not occur in the training lines; tagged f1 requires the correct part of speech, too. "
            "Tags are decoded as the most likely consistent sequence. Characters that occur once "
            "in the training text are treated as unknown, like test characters that never occur in "
            "it. Data: People's Daily, January 1998; it belongs to its publisher, is read from a "
            "package at run time and not redistributed."
        ),
        metrics=("test_f1", "test_precision", "test_recall", "test_oov_recall", "test_tagged_f1"),
        limits=(
            "The model was trained on one month of one newspaper, in 1998: it segments names, "
            "other domains and contemporary text less well. It has seen hardly any traditional "
            "characters."
        ),
    )
    Config = Config
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
    PredictOptions = PredictOptions
    variants: ClassVar = {
        "bidirectional LSTM": {},
        "bidirectional GRU": {"cell": "gru"},
        "bidirectional GRU, pairs from three on": {
            "cell": "gru",
            "bigrams": 3,
            "bigram_embedding": 20,
        },
        "bidirectional LSTM, no parts of speech": {"parts_of_speech": False},
        "bidirectional LSTM, no pairs": {"bigrams": 0},
    }
    published_variant = "bidirectional GRU, pairs from three on"
    input_help = "sentences, each in quotation marks"

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        import numpy as np
        import tensorflow as tf

        import kerasrnn
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        splits = _own(config.data) if config.data else _tfds(self.dataset, data_dir)
        known = splits["train"] + splits["validation"]
        parts = sorted({part for line in known for part in line.parts})
        if not config.parts_of_speech:
            parts = []
        pieces = {name: [p for line in s for p in cut(line.words)] for name, s in splits.items()}
        texts = {name: ["".join(words) for words in p] for name, p in pieces.items()}
        symbols = _seen_twice(texts["train"])
        if not symbols:
            raise DatasetError(f"{config.data}: expected characters that occur more than once.")
        numbers = text.vectorizer(symbols, split="character")
        ids = {name: np.array(numbers(lines), "int32") for name, lines in texts.items()}

        def dataset(name: str) -> "tf.data.Dataset":
            rows = tf.RaggedTensor.from_tensor(ids[name], padding=0)
            # Segments and lines hold the same characters in the same order.
            letters = "".join(segmentation.to_tags(words) for words in pieces[name])
            targets = np.array([segmentation.TAGS.index(letter) for letter in letters], "int32")
            if parts:
                # A tag that only the test lines have cannot be learned and is not a target.
                index = {part: n for n, part in enumerate(parts)}
                of_words = [index.get(part, 0) for line in splits[name] for part in line.parts]
                lengths = [len(word) for line in splits[name] for word in line.words]
                targets = targets * len(parts) + np.repeat(of_words, lengths).astype("int32")
            targets = tf.RaggedTensor.from_row_lengths(targets, rows.row_lengths())
            slices = tf.data.Dataset.from_tensor_slices((rows, targets))
            # A row is a tensor, although its specification is ragged.
            return slices.map(lambda row, target: (tf.identity(row), tf.identity(target)))

        pairs = None
        if config.bigrams:
            pairs = kerasrnn.BigramEmbedding.frequent(ids["train"], config.bigrams)
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
            metadata={"vocabulary": symbols, "parts": parts},
            raw={
                "pairs": pairs,
                "usual_parts": _usual_parts(splits["train"]) if parts else None,
                "train_words": {word for line in splits["train"] for word in line.words},
                "test": splits["test"],
            },
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        pairs: dict[str, Any] = {}
        if config.bigrams:
            pairs = {
                "bigrams": data.raw["pairs"],
                "bigram_units": config.bigram_embedding,
                "bigram_dropout": config.bigram_dropout,
            }
        return zoo.many_to_many(
            zoo.Tokens(len(data.metadata["vocabulary"]) + 2, config.embedding, **pairs),
            zoo.Classes(len(segmentation.TAGS) * max(len(data.metadata["parts"]), 1)),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            bidirectional=True,
            dropout=config.dropout,
            recurrent_dropout=config.recurrent_dropout,
            name=self.name,
        )

    def bundle(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        numbers = text.vectorizer(data.metadata["vocabulary"], split="character")
        return text.attach(model, {"sequence": numbers})

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        return text.trained_model(model)

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        return bucketed(dataset, LENGTHS, config.batch_size, training)

    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        lines = data.raw["test"]
        found = self._segment(model, data.metadata, ["".join(line.words) for line in lines])
        metrics = _scores(data, [line.words for line in found])
        if data.metadata["parts"]:
            metrics["test_tagged_f1"] = segmentation.tagged_f1(lines, found)
        return metrics

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        lines = data.raw["test"]
        longest = longest_match(["".join(line.words) for line in lines], data.raw["train_words"])
        metrics = _scores(data, longest)
        if data.metadata["parts"]:
            usual, commonest = data.raw["usual_parts"]
            guessed = [(words, [usual.get(w, commonest) for w in words]) for words in longest]
            metrics["test_tagged_f1"] = segmentation.tagged_f1(lines, guessed)
        return {f"baseline_longest_match_{name}": value for name, value in metrics.items()}

    def _segment(
        self, model: "keras.Model", metadata: Mapping[str, Any], sentences: Sequence[str]
    ) -> list[Line]:
        import numpy as np

        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        numbers = text.vectorizer(metadata["vocabulary"], split="character")
        pieces = [(n, piece) for n, s in enumerate(sentences) for piece in cut(s)]
        texts = ["".join(piece) for _, piece in pieces]
        lines = [Line([], []) for _ in sentences]
        found: dict[int, Line] = {}
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        trained = self.trained_model(model)
        parts = metadata["parts"]
        for start in range(0, len(order), 256):
            batch = order[start : start + 256]
            length = next(m for m in LENGTHS if m >= len(texts[batch[-1]]))
            ids = np.zeros((len(batch), length), "int32")
            for row, n in enumerate(batch):
                ids[row, : len(texts[n])] = np.array(numbers(texts[n]))
            for n, p in zip(batch, trained.predict_on_batch(ids), strict=True):
                p = p[: len(texts[n])].reshape(len(texts[n]), len(segmentation.TAGS), -1)
                tags = likeliest(np.log(p.sum(axis=-1) + 1e-30))
                words = segmentation.to_words(texts[n], tags)
                found[n] = Line(words, _likeliest_parts(p, words, tags, parts))
        for n, (sentence, _) in enumerate(pieces):
            lines[sentence].words.extend(found[n].words)
            lines[sentence].parts.extend(found[n].parts)
        return lines

    def parse_input(self, text: str) -> str:
        return checked(text, "a sentence").strip().translate(WIDE)

    def numbering(self, model: "keras.Model") -> "keras.layers.Layer":
        return model.get_layer("vectorizer")

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
        lines = self._segment(model, metadata, inputs)
        if predict_options.parts:
            return [" ".join(map("/".join, zip(*line, strict=True))) for line in lines]
        return [" ".join(line.words) for line in lines]

    def example(self, data: Data, index: int) -> str:
        return "".join(data.raw["test"][index].words)

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        texts = ["".join(cut(line.words)[0]) for line in data.raw["test"][:16]]
        return {
            **super().exports(model, data, config),
            "of_text": (model, [np.array(texts, dtype=object)]),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        from kerasrnn.recipes.datasets.peoples_daily import segmentation

        described = text.described(text.vectorizer(metadata["vocabulary"], split="character"))
        classes = [
            f"{tag}-{part}" if part else tag
            for tag in segmentation.TAGS
            for part in metadata["parts"] or [""]
        ]
        (name,) = self.trained_model(model).output_names
        return {"sequence": described, name: {"classes": classes}}

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=8, bigram_embedding=4, batch_size=4
        )


def _scores(data: Data, words: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores of the words of all test lines."""
    from kerasrnn.recipes.datasets.peoples_daily import segmentation

    expected = [line.words for line in data.raw["test"]]
    scores = segmentation.score(expected, words, data.raw["train_words"])._asdict()
    # Without out-of-vocabulary words, their recall is undefined.
    return {f"test_{name}": value for name, value in scores.items() if value is not None}


def cut(words: Sequence[str]) -> list[list[str]]:
    """Cut a sentence's words (or characters) into segments of limited length.

    Cuts are made at the end of a clause if possible, so that a segment has the context it needs.
    """
    pieces: list[list[str]] = []
    piece: list[str] = []
    length = 0
    for word in words:
        # A word longer than a segment is split into several words.
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
    """The consistent tag sequence with the highest sum of scores.

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
    """Baseline: greedy longest match from the left with the training vocabulary."""
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


def _usual_parts(lines: Iterable[Line]) -> tuple[dict[str, str], str]:
    """Each word's most frequent part of speech, and the overall most frequent one."""
    from collections import Counter, defaultdict

    of_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        for word, part in zip(*line, strict=True):
            of_word[word][part] += 1
    usual = {word: counts.most_common(1)[0][0] for word, counts in of_word.items()}
    return usual, sum(of_word.values(), Counter()).most_common(1)[0][0]


def _seen_twice(texts: Sequence[str]) -> list[str]:
    """The characters that occur more than once; the others train the unknown symbol."""
    from collections import Counter

    counts = Counter("".join(texts))
    return [symbol for symbol in text.adapted(texts, split="character") if counts[symbol] > 1]


def _likeliest_parts(
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


def _tfds(name: str, data_dir: str | None) -> dict[str, list[Line]]:
    from kerasrnn.recipes import datasets

    splits, _ = datasets.load(name, ("train", "validation", "test"), data_dir)
    return {
        split: [
            Line([word.decode() for word in x["words"]], [part.decode() for part in x["tags"]])
            for x in dataset.as_numpy_iterator()
        ]
        for split, dataset in splits.items()
    }


def _own(path: str) -> dict[str, list[Line]]:
    """The user's own sentences, in the order of the file: train, validation, test."""
    lines: list[Line] = []
    with_parts = False
    rows = text.read_text(path).split("\n")
    _check_words(path, rows)
    for number, row in enumerate(rows, start=1):
        words = row.split()
        tagged = [TAGGED.fullmatch(word) for word in words]
        if not words:
            continue
        if not lines:  # the first line tells the kind of file
            with_parts = all(tagged)
        if with_parts:
            for word, match in zip(words, tagged, strict=True):
                if not match:
                    raise DatasetError(
                        f"{path}, line {number}: expected words with their parts of speech, as in "
                        f"word/n and as in the first line; found {word!r}."
                    )
            lines.append(Line([m[1].translate(WIDE) for m in tagged], [m[2] for m in tagged]))
        else:
            lines.append(Line([word.translate(WIDE) for word in words], []))
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


def _check_words(path: str, rows: Sequence[str]) -> None:
    """Check that lines are sentences with words separated by spaces.

    Raises:
        DatasetError: the lines are columns, as in CoNLL files, or have no spaces.
    """
    expected = "expected sentences, a line each, with spaces between the words"
    for number, row in enumerate(rows, start=1):
        if "\t" in row.strip():
            raise DatasetError(f"{path}, line {number}: {expected}; found a tab, as in a table.")
    filled = [(number, row.split()) for number, row in enumerate(rows, start=1) if row.strip()]
    # In such files a line is a token, and its last column a tag.
    tagged = [number for number, words in filled if len(words) > 1 and TAG.fullmatch(words[-1])]
    if len(tagged) > len(filled) / 2:
        raise DatasetError(
            f"{path}, line {tagged[0]}: {expected}; found a token and its tag, as in the files of "
            "CoNLL."
        )
    if all(len(words) == 1 for _, words in filled):
        raise DatasetError(f"{path}: {expected}; no line has a space.")


RECIPE: Any = WordSegmentation()
