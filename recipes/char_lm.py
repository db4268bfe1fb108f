"""Character-level language modeling: a model of Shakespeare that continues a given text.

Papers: Mikolov et al. (2010), "Recurrent neural network based language model", Interspeech; Graves
(2013), "Generating sequences with recurrent neural networks", arXiv 1308.0850; Zaremba et al.
(2014), "Recurrent neural network regularization", arXiv 1409.2329, for the dropout.

    kerasrnn train char_lm
    kerasrnn train char_lm --data mine.txt
    kerasrnn predict char_lm "ROMEO:" --temperature 0.8 --length 500

The text is read as parallel streams. Each segment starts from the final states of the segment
before it, so the network's memory is longer than the span of backpropagation.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.text import checked
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

STREAMS = 8  # of the validation text
LONGEST = 50_000  # unless they had more characters than that


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    OF_CATALOGUE: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: str = options.option(
        "karpathy_shakespeare",
        "the text: from its author's repository; or from the TFDS catalogue, with another split",
        choices=("karpathy_shakespeare", "tiny_shakespeare"),
    )
    data: str = options.option("", "your own text file; its last tenth is the validation data")
    segment: int = options.option(128, "length of truncated backpropagation, in characters", low=1)
    epochs: int = options.option(16, "passes over the training data", low=1)
    batch_size: int = options.option(64, "number of parallel streams", low=1)
    learning_rate: float = options.option(4e-3, "peak learning rate", low=1e-6)
    warmup: float = options.option(
        0.1,
        "fraction of the steps over which the learning rate warms up from zero",
        low=0.0,
        below=1.0,
    )
    cell: str = options.option("lstm", "recurrent cell", choices=options.CELLS)
    embedding: int = options.option(128, "size of the character embeddings", low=1)
    units: int = options.option(512, "units of each recurrent layer", low=1)
    depth: int = options.option(2, "number of stacked layers", low=1)
    dropout: float = options.option(0.5, "dropout rate", low=0.0, below=1.0)


@dataclass(frozen=True)
class PredictOptions(options.Options):
    """Options of the generation."""

    length: int = options.option(400, "number of characters to generate", low=1)
    temperature: float = options.option(
        0.8, "sampling temperature: below 1 favours likely symbols, above 1 unlikely ones", low=0.01
    )
    top_k: int = options.option(0, "sample from the k most likely characters; 0: from all", low=0)
    top_p: float = options.option(
        1.0,
        "sample from the most likely characters whose probabilities sum to p (nucleus sampling)",
        low=0.01,
        high=1.0,
    )
    greedy: bool = options.option(False, "always choose the most likely character")
    seed: int = options.option(0, "random seed of the sampling", low=0, high=options.HIGHEST_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.greedy:
            self.refuse_ignored("greedy", "temperature", "top_k", "top_p", "seed")


class CharLm(Recipe):
    """A recurrent network reads characters and predicts the next one at each step."""

    name = "char_lm"
    dataset = "karpathy_shakespeare"
    card = Card(
        title="Character-level language modeling on Shakespeare",
        topology="synced many-to-many, stateful",
        result=(
            "validation loss 1.450 nats a character with LSTM, in an hour on one core; 6-grams: "
            "1.523"
        ),
        protocol=(
            "nanoGPT's split: the first nine tenths of the characters for training, the rest for "
            "validation. The loss covers all validation characters, read as eight streams from "
            "their beginnings. The last epoch's weights were kept. Size, dropout and learning rate "
            "were tuned on the same validation text, as in all published results on this dataset: "
            "there is no test text. Baselines: our interpolated modified Kneser-Ney n-grams. Data: "
            "public domain, collected by A. Karpathy."
        ),
        metrics=("validation_nats", "validation_bits", "validation_perplexity"),
        lower_is_better=True,
        limits=(
            "The model has learned spelling and the form of a play; its text has no meaning. It "
            "covers the 65 characters of its training text."
        ),
        published=(
            Published("nanoGPT, GPU, 10.6M parameters", "its README", {"validation_nats": 1.4697}),
            Published("nanoGPT, CPU, 3 minutes", "its README", {"validation_nats": 1.88}),
            Published("minGRU", "Feng et al. 2024, by a transcription", {"validation_nats": 1.548}),
            Published(
                "minLSTM", "Feng et al. 2024, by a transcription", {"validation_nats": 1.555}
            ),
            Published("Mamba", "Feng et al. 2024, by a transcription", {"validation_nats": 1.575}),
        ),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("lstm", "gru"),
        "embedding": space.powers(32, 256),
        "units": space.powers(128, 1024),
        "depth": space.integers(1, 3),
        "dropout": space.floats(0.0, 0.7),
        "learning_rate": space.floats(1e-3, 1e-2, log=True),
        **space.CLIPPING,
    }
    PredictOptions = PredictOptions
    variants: ClassVar = {
        "LSTM": {},
        "LSTM, small": {"units": 384, "dropout": 0.4},
        "GRU": {"cell": "gru"},
    }
    published_variant = "LSTM, small"
    shuffled = False
    input_help = "the beginning of the text, in quotation marks"

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        import tensorflow as tf

        if config.data:
            whole = text.read_text(config.data)
            cut = len(whole) * 9 // 10
            train, held = whole[:cut], whole[cut:]
        else:
            train, held = _tfds(config.dataset, data_dir)
        for name, part, least in (
            ("training", train, config.batch_size * (config.segment + 1) + config.segment),
            ("validation", held, max(config.batch_size * config.segment + 1, 2 * STREAMS)),
        ):
            if len(part) < least:
                raise ConfigError(
                    f"batch_size={config.batch_size}, segment={config.segment}: expected {least} "
                    f"characters of {name} text at least; found {len(part)}."
                )
        symbols = text.adapted([train], split="character")
        numbers = text.vectorizer(symbols, split="character")

        def dataset(part: str) -> "tf.data.Dataset":
            return tf.data.Dataset.from_tensors(tf.cast(numbers(part), "int32"))

        return Data(
            train=dataset(train),
            test=dataset(held),
            train_size=len(train),
            test_size=len(held),
            validation=dataset(held),
            validation_size=len(held),
            metadata={"vocabulary": symbols},
            raw={"train": train, "validation": held},
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        return self._build(config, data.metadata, stateful=True)

    def _build(self, config: Config, metadata: Mapping[str, Any], stateful: bool) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.next_step(
            zoo.Classes(len(metadata["vocabulary"]) + 2),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            embedding_units=config.embedding,
            dropout=config.dropout,
            stateful=stateful,
            batch_size=config.batch_size if stateful else None,
            name=self.name,
        )

    def bundle(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        """The same network without fixed batch size or carried states."""
        stateless = self._build(config, data.metadata, stateful=False)
        # All trained variables; the states are not among them.
        for weight, trained in zip(
            stateless.trainable_weights, model.trainable_weights, strict=True
        ):
            weight.assign(trained)
        numbers = text.vectorizer(data.metadata["vocabulary"], split="character")
        return text.attach(stateless, {"sequence": numbers})

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        return text.trained_model(model)

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        """Segments of the streams; they start at different characters in each pass."""
        import numpy as np
        import tensorflow as tf

        batch, segment = config.batch_size, config.segment
        offsets = tf.data.Dataset.random(config.seed, rerandomize_each_iteration=True)

        def segments(ids: Any, drawn: Any) -> "tf.data.Dataset":
            offset = tf.cast(drawn % segment, "int32") if training else 0
            width = (tf.size(ids) - segment - 1) // (batch * segment) * segment
            if not training:
                width = (tf.size(ids) - 1) // (batch * segment) * segment

            def streams(start: Any) -> Any:
                part = tf.reshape(ids[start : start + batch * width], [batch, -1, segment])
                return tf.transpose(part, [1, 0, 2])

            pair = (streams(offset), streams(offset + 1))
            pair = tuple(tf.ensure_shape(x, [None, batch, segment]) for x in pair)
            return tf.data.Dataset.from_tensor_slices(pair)

        batches = tf.data.Dataset.zip(dataset, offsets).flat_map(segments)
        count = batches.reduce(np.int64(0), lambda count, _: count + 1)
        return batches.apply(tf.data.experimental.assert_cardinality(count))

    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        import numpy as np

        numbers = text.vectorizer(data.metadata["vocabulary"], split="character")
        ids = np.array(numbers(data.raw["validation"]))
        # Use more streams if the probabilities of longer ones would not fit into memory.
        streams = STREAMS * -(-len(ids) // (STREAMS * LONGEST))
        ids = ids[: len(ids) // streams * streams].reshape(streams, -1)
        total = 0.0
        for start in range(0, streams, STREAMS):
            rows = ids[start : start + STREAMS]
            probabilities = self.trained_model(model).predict_on_batch(rows[:, :-1])
            right = np.take_along_axis(probabilities, rows[:, 1:, None], axis=-1)
            total -= np.log(right.astype("float64")).sum()
        return _of_nats(float(total / ids[:, 1:].size))

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        from kerasrnn.recipes.tasks import ngrams

        metrics = {}
        highest = min(6, ngrams.greatest_order(len(set(data.raw["train"]))))
        for order in range(2, highest + 1):
            model = ngrams.NGrams(data.raw["train"], order)
            baseline = float(model.nats(data.raw["validation"]).mean())
            for name, value in _of_nats(baseline).items():
                metrics[f"baseline_{order}-grams_{name}"] = value
        return metrics

    def parse_input(self, text: str) -> str:
        if text.isspace():  # a text may start with a newline
            return text
        return checked(text, "the beginning of the text")

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
        import numpy as np

        from kerasrnn import decoding, zoo

        sampler = (
            decoding.Greedy()
            if predict_options.greedy
            else decoding.Sample(
                predict_options.temperature, predict_options.top_k or None, predict_options.top_p
            )
        )
        symbols = ["", "�", *metadata["vocabulary"]]
        writer = zoo.generator(
            self.trained_model(model),
            sampler=sampler,
            max_length=predict_options.length,
            seed=predict_options.seed,
            forbidden=[symbols.index("�")],
        )
        numbers = text.vectorizer(metadata["vocabulary"], split="character")
        written = writer.predict(np.array(numbers(list(inputs))), verbose=0)
        return [
            "\n" + beginning + "".join(symbols[n] for n in row)
            for beginning, row in zip(inputs, written, strict=True)
        ]

    def example(self, data: Data, index: int) -> str:
        """A line of the validation text."""
        lines = data.raw["validation"].split("\n")
        if index >= len(lines):
            raise ConfigError(
                f"--test {index}: the validation text has {counted(len(lines), 'line')}; expected "
                f"0 to "
                f"{len(lines) - 1}."
            )
        return lines[index] + "\n"

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        from kerasrnn import zoo

        lines = [line for line in data.raw["validation"].split("\n") if line][:8]
        numbers = text.vectorizer(data.metadata["vocabulary"], split="character")
        batches = [np.array(numbers(x), "int32") for x in (lines, lines[:1])]
        trained = self.trained_model(model)
        return {
            "model": (trained, batches),
            "step": (zoo.encoder_and_step(trained).step, True),
            "of_text": (model, [np.array(lines, dtype=object)]),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        described = text.described(text.vectorizer(metadata["vocabulary"], split="character"))
        (name,) = self.trained_model(model).output_names
        return {"sequence": described, name: {"symbols": described["symbols"], "separator": ""}}

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=4, depth=1, segment=16, batch_size=4
        )


def _tfds(name: str, data_dir: str | None) -> tuple[str, str]:
    from kerasrnn.recipes import datasets

    splits, _ = datasets.load(name, ("train", "validation"), data_dir)
    train, held = (
        "".join(x["text"].decode() for x in split.as_numpy_iterator()) for split in splits.values()
    )
    return train, held


def _of_nats(nats: float) -> dict[str, float]:
    """The loss per character in three units."""
    import math

    return {
        "validation_nats": nats,
        "validation_bits": nats / math.log(2),
        "validation_perplexity": math.exp(nats),
    }


RECIPE: Any = CharLm()
