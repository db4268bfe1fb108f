"""Shared code of the text-to-text recipes: vectorization, batches, model, scores, plots.

A pair is a source and one of its targets. Both are split into symbols and numbered with the
vocabulary of the training pairs. An encoder reads the source; a decoder writes the target and, with
attention, attends to the source at each step.
"""

import dataclasses
import itertools
import json
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.files import replacing
from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.recipe import Data, Recipe, Runtime
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.pairs import SPLITS, Pair
from kerasrnn.recipes.tasks.text import checked
from kerasrnn.training.bucketing import bucketed
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerasrnn.zoo.translation import Translation, Translator

ATTENTIONS = ("bahdanau", "luong", "none")
# Those of `kerasrnn.zoo.encoder_decoder`; a test compares them. They are repeated here because the
# command line shows them before Keras is imported.
MODES = ("state", "every", "both")

WRITTEN = "written.jsonl"
"""The file of the predictions for all test sources, in the run's folder."""


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    attention: str = options.option(
        "bahdanau",
        "attention over the source: bahdanau (the query is the state before the step), luong (the "
        "query is the output), or none",
        choices=ATTENTIONS,
    )
    input_feeding: bool = options.option(
        True, "with luong: feed the attention output into the next step"
    )
    mode: str = options.option(
        "state",
        "without attention: use the encoder's summary as the initial state, as an input at every "
        "step, or both",
        choices=MODES,
    )
    batch_size: int = options.option(128, "pairs per step", low=1)
    learning_rate: float = options.default("learning_rate", 2e-3)
    warmup: float = options.default("warmup", 0.05)
    cell: str = options.cell("lstm")
    embedding: int = options.option(128, "size of the symbol embeddings", low=1)
    units: int = options.option(256, "units of each recurrent layer", low=1)
    depth: int = options.option(
        1, "number of stacked layers in the encoder and in the decoder", low=1
    )
    bidirectional: bool = options.option(True, "use a bidirectional encoder")
    tied: bool = options.option(False, "tie the output weights to the target embeddings")
    dropout: float = options.option(0.3, "dropout rate", low=0.0, below=1.0)
    label_smoothing: float = options.option(0.1, "label smoothing", low=0.0, below=1.0)
    sampling: float = options.option(
        0.0,
        "scheduled sampling: fraction of the true symbols replaced by the decoder's own at the "
        "end of training, rising from zero",
        low=0.0,
        high=1.0,
    )
    beam: int = options.option(5, "beam width for the test data; 1: greedy decoding", low=1)
    length_penalty: float = options.option(
        1.0,
        "length penalty of the beam: 0 favours short outputs, 1 compares the mean "
        "log-probability per symbol",
        low=0.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention != "luong":
            self.refuse_ignored(f"attention={self.attention!r}", "input_feeding")
        if self.attention != "none":
            self.refuse_ignored(f"attention={self.attention!r}", "mode")
        if self.beam == 1:
            self.refuse_ignored("beam=1", "length_penalty")


@dataclass(frozen=True)
class PredictOptions(options.Options):
    """Options of the decoding."""

    beam: int = options.option(5, "beam width; 1: greedy decoding", low=1)
    length_penalty: float = options.option(
        1.0,
        "length penalty of the beam: 0 favours short outputs, 1 compares the mean "
        "log-probability per symbol",
        low=0.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam == 1:
            self.refuse_ignored("beam=1", "length_penalty")


class TextToText(Recipe):
    """An encoder reads a text; a decoder writes another."""

    Config: ClassVar[type[Config]] = Config
    PredictOptions: ClassVar[type[PredictOptions]] = PredictOptions
    search_space: ClassVar[space.Space] = {
        "attention": space.choice("bahdanau", "luong"),
        "input_feeding": space.switch(given={"attention": ("luong",)}),
        "cell": space.choice("lstm", "gru"),
        "embedding": space.powers(64, 256),
        "units": space.powers(64, 512),
        "depth": space.integers(1, 2),
        "bidirectional": space.switch(),
        "dropout": space.floats(0.0, 0.5),
        "learning_rate": space.floats(5e-4, 1e-2, log=True),
        # Neither label smoothing nor the symbols: losses of different targets are not comparable.
        **space.CLIPPING,
    }
    lengths: ClassVar[Sequence[int]]
    """Lengths that sources and targets are padded to; longer training pairs are dropped."""

    input_help = "texts, each in quotation marks"
    makes = (".png",)

    @abstractmethod
    def pairs(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[Pair]]:
        """The pairs of `train`, `validation` and `test`. A source may have several targets."""

    @abstractmethod
    def kinds(self, config: Config) -> tuple[str, str]:
        """How source and target are split: kinds of `text.fitted`."""

    @abstractmethod
    def scores(
        self, references: Sequence[Sequence[str]], predictions: Sequence[str], config: Config
    ) -> dict[str, float]:
        """The test metrics of the prediction for each source, given all its references.

        Both are normalized as in the model: see `text.rewritten`.
        """

    def scored(
        self, references: Sequence[Sequence[str]], predictions: Sequence[str], config: Config
    ) -> dict[str, float]:
        """`scores` for texts as they are in the data.

        A word model writes lower case, so it is compared with lower-case references.
        """
        kind = self.kinds(config)[1]
        texts = iter(text.rewritten(kind, [x for right in references for x in right]))
        references = [list(itertools.islice(texts, len(right))) for right in references]
        return self.scores(references, text.rewritten(kind, predictions), config)

    def sizes(self, config: Config) -> tuple[int | None, int | None]:
        """The vocabulary sizes of source and target; None: all symbols."""
        return None, None

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        pairs = self.pairs(config, data_dir)
        fits = [
            text.fitted(kind, [pair[side] for pair in pairs["train"]], size)
            for side, (kind, size) in enumerate(
                zip(self.kinds(config), self.sizes(config), strict=True)
            )
        ]
        metadata: dict[str, Any] = dict(zip(("source", "target"), fits, strict=True))
        numbers = [text.numbering(fit) for fit in fits]
        datasets, counts, excess = {}, {}, {}
        for split in SPLITS:
            datasets[split], counts[split], excess[split] = _numbered(
                pairs[split], numbers, self.lengths[-1]
            )
        if not counts["train"]:
            raise DatasetError(
                f"{self.name}: expected training pairs of at most {self.lengths[-1] - 1} symbols; "
                "found none."
            )
        metadata["left_out_of_training"] = len(pairs["train"]) - counts["train"]
        references: dict[str, list[str]] = {}
        for source, target in pairs["test"]:
            references.setdefault(source, []).append(target)
        return Data(
            train=datasets["train"],
            test=datasets["test"],
            train_size=counts["train"],
            test_size=counts["test"],
            validation=datasets["validation"],
            validation_size=counts["validation"],
            metadata=metadata,
            raw={"train": pairs["train"], "test": references, "excess": excess["train"]},
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import decoding, zoo

        sampling = None
        if config.sampling:
            steps = config.epochs * max(data.train_size // config.batch_size, 1)
            sampling = decoding.ScheduledSampling(
                "linear", slope=config.sampling / steps, floor=1 - config.sampling
            )
        source, target = (len(data.metadata[side]["symbols"]) + 2 for side in ("source", "target"))
        return zoo.encoder_decoder(
            zoo.Tokens(source, config.embedding),
            zoo.Classes(target + 2),
            mode=config.mode,
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            bidirectional=config.bidirectional,
            embedding_units=config.embedding,
            dropout=config.dropout,
            tied=config.tied,
            attention=None if config.attention == "none" else config.attention,
            input_feeding=config.input_feeding,
            sampling=sampling,
            name=self.name,
        )

    def bundle(self, model: "keras.Model", config: Config, data: Data) -> "Translator":
        from kerasrnn import zoo

        sides = [text.numbering(data.metadata[side], side) for side in ("source", "target")]
        return zoo.Translator(
            model,
            *sides,
            max_length=2 * self.lengths[-1],
            # Lets a beam stop early without truncating anything as long as in training.
            length_limit=(2, max(10, data.raw["excess"])),
            name=self.name,
        )

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        from kerasrnn import zoo

        return model.model if isinstance(model, zoo.Translator) else model

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        from kerasrnn import zoo

        texts = np.array(list(data.raw["test"])[:8], dtype=object)
        ids = np.asarray(model.source(texts), "int32")
        batches = [ids, ids[:1]]
        encoder, step = zoo.encoder_and_step(model.model)
        serving = model.serving(config.beam, config.length_penalty)
        return {
            "greedy": (model.writer(), batches),
            "encoder": (encoder, batches),
            "step": (step, True),
            "of_text": (serving, [texts, texts[:1]]),
        }

    def evaluate_exported(
        self, run: Runtime, model: "Translator", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        """With greedy decoding."""
        import numpy as np
        import tensorflow as tf

        sources, references = map(list, zip(*data.raw["test"].items(), strict=True))
        predictions = [""] * len(sources)
        order = sorted(range(len(sources)), key=lambda n: len(sources[n]))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            ids = np.asarray(model.source(tf.constant([sources[n] for n in rows])), "int32")
            for n, written in zip(rows, run([ids])[0], strict=True):
                predictions[n] = model.text(written)
        return self.scored(references, predictions, config)

    def vocabulary(self, model: "Translator", metadata: Mapping[str, Any]) -> dict[str, Any]:
        symbols = [*model.symbols, "[END]", "[START]"]
        ends = {"start": model.start, "end": model.end}
        target = text.described(model.target)
        of_target = {"symbols": symbols, "separator": target["separator"], **ends}
        return {"source": text.described(model.source), "sequences": of_target}

    def loss(self, config: Config) -> "keras.losses.Loss":
        import kerasrnn

        return kerasrnn.losses.SequenceCrossentropy(config.label_smoothing, ignore_class=0)

    def fit_metrics(self, config: Config) -> tuple[Any, ...]:
        import kerasrnn

        return (kerasrnn.metrics.TokenAccuracy(ignore_class=0, name="accuracy"),)

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        return bucketed(
            dataset,
            self.lengths,
            config.batch_size,
            training,
            length=lambda x, y: tf.maximum(tf.shape(x[0])[0], tf.shape(y)[0]),
        )

    def evaluate(
        self, model: "Translator", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        sources, references = map(list, zip(*data.raw["test"].items(), strict=True))
        penalty = {"length_penalty": config.length_penalty} if config.beam > 1 else {}
        predictions = model.explain(sources, config.beam, **penalty)
        texts = [translation.text for translation in predictions]
        _keep(sources, references, texts, folder / WRITTEN)
        metrics = self.scored(references, texts, config)
        metrics["test_cut"] = sum(translation.truncated for translation in predictions) / len(
            predictions
        )
        if config.attention != "none":
            self.draw(
                [predictions[n * len(predictions) // 6] for n in range(6)], folder / "attention.png"
            )
        return metrics

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        sources, references = map(list, zip(*data.raw["test"].items(), strict=True))
        scores = self.scored(references, _nearest(data.raw["train"], sources), config)
        return {f"baseline_nearest_source_{name}": value for name, value in scores.items()}

    def compare(self, runs: Mapping[str, Sequence[Path]], place: Path) -> dict[str, str]:
        """The attention of the first variant that has one."""
        for variant, folders in runs.items():
            picture = folders[0] / "attention.png"
            if picture.is_file():
                with replacing(place / "attention.png") as new:
                    shutil.copyfile(picture, new)
                shown = "Attention of each output symbol (rows) over the source symbols (columns)"
                return {"attention.png": f"{shown}: {variant}"}
        return {}

    def draw(self, translations: Sequence["Translation"], path: Path) -> None:
        """Draw the attention of each output symbol."""
        from kerasrnn.recipes.reporting import pictures

        pictures.alignments(translations, path)

    def parse_input(self, text: str) -> str:
        return checked(text)

    def numbering(self, model: "Translator") -> "keras.layers.Layer":
        return model.source

    def predict(
        self,
        model: "Translator",
        metadata: Mapping[str, Any],
        inputs: Sequence[str],
        predict_options: PredictOptions,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        arguments: dict[str, Any] = {}
        if predict_options.beam > 1:
            arguments["length_penalty"] = predict_options.length_penalty
        if getattr(predict_options, "copy_unknown", False):
            try:
                model.check_copying()
            except ValueError as error:
                raise options.ConfigError(str(error)) from None
            arguments["copy_unknown"] = True
        translations = model.explain(inputs, predict_options.beam, **arguments)
        answers = [translation.text for translation in translations]
        for n, translation in enumerate(translations):
            if translation.truncated:
                answers[n] += (
                    f"\n    cut after {counted(len(translation.symbols), 'symbol')}, without an end"
                )
        if places is None:
            return answers
        if translations[0].attention is None:
            raise options.ConfigError("--output: the model has no attention to plot.")
        for n, (translation, place) in enumerate(zip(translations, places, strict=True)):
            path = place.with_name(f"{place.name}.png")
            self.draw([translation], path)
            answers[n] += f"\n    {path}"
        return answers

    def example(self, data: Data, index: int) -> str:
        return list(data.raw["test"])[index]

    def expected(self, data: Data, index: int, predict_options: options.Options) -> str:
        return " | ".join(list(data.raw["test"].values())[index])

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(),
            cell="simple_rnn",
            units=8,
            bidirectional=False,
            embedding=8,
            batch_size=16,
            beam=1,
            dropout=0.0,
        )


def _numbered(
    pairs: Sequence[Pair], numbers: Sequence["keras.layers.Layer"], longest: int
) -> tuple["tf.data.Dataset", int, int]:
    """`((source, previous), target)` ids of the pairs that are short enough, and their number.

    The last number is the largest excess of a target's length, its end included, over twice the
    length of its source. A source without any symbol is one step of padding.
    """
    import numpy as np
    import tensorflow as tf

    from kerasrnn.zoo import reading

    excess = 0
    rows: list[list[np.ndarray]] = [[], [], []]
    for start in range(0, len(pairs), 4096):
        sources, targets = zip(*pairs[start : start + 4096], strict=True)
        ids = np.pad(reading.numbered(numbers[0], sources), ((0, 0), (0, 1)))
        previous, target = reading.target_ids(numbers[1], targets)
        source_lengths, target_lengths = (
            np.maximum((ids > 0).sum(axis=1), 1),
            (target > 0).sum(axis=1),
        )
        short = np.flatnonzero(np.maximum(source_lengths, target_lengths) <= longest)
        excess = max([excess, *(target_lengths - 2 * source_lengths)[short]])
        for n in short:
            rows[0].append(ids[n, : source_lengths[n]])
            rows[1].append(previous[n, : target_lengths[n]])
            rows[2].append(target[n, : target_lengths[n]])
    if not rows[0]:
        return tf.data.Dataset.from_tensors(0).take(0), 0, 0
    source, previous, target = (
        tf.RaggedTensor.from_row_lengths(np.concatenate(row), [len(x) for x in row]) for row in rows
    )
    dataset = tf.data.Dataset.from_tensor_slices(((source, previous), target))
    # A row of a ragged tensor is dense, which batching must know.
    dataset = dataset.map(lambda x, y: ((tf.identity(x[0]), tf.identity(x[1])), tf.identity(y)))
    return dataset, len(rows[0]), int(excess)


def _keep(
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    predictions: Sequence[str],
    path: Path,
) -> None:
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        for source, right, answer in zip(sources, references, predictions, strict=True):
            line = {"source": source, "references": right, "written": answer}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def written(folder: Path) -> list[dict[str, Any]]:
    """The predictions of a run: `source`, `references` and `written` of each test source."""
    with (folder / WRITTEN).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _nearest(train: Sequence[Pair], sources: Sequence[str]) -> list[str]:
    """Baseline: for each source, a target of the most similar training source."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Word ends count as symbols. Runs of one to three, so that any two texts have a similarity.
    features = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), dtype=np.float32)
    known = features.fit_transform([source for source, _ in train]).T.tocsr()
    indices: list[int] = []
    for start in range(0, len(sources), 256):
        likeness = features.transform(sources[start : start + 256]) @ known
        indices += [int(np.argmax(row)) for row in likeness.toarray()]
    return [train[n][1] for n in indices]
