"""Shared code of the language models of one long text: parallel streams, continuation of a text.

The text is read as parallel streams. Each segment starts from the final states of the segment
before it, so the network's memory is longer than the span of backpropagation.
"""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.language_model import LanguageModel, log_likelihood
from kerasrnn.recipes.tasks.text import checked
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

STREAMS = 8
"""Number of streams of the validation text."""

LONGEST = 50_000
"""The largest number of characters per stream of the validation text; longer texts have more."""


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


class StreamedText(LanguageModel):
    """A character model of one text.

    A recipe implements `texts`. Its options include `segment`, the length of truncated
    backpropagation; `batch_size` is the number of streams.
    """

    PredictOptions = PredictOptions
    shuffled = False
    input_help = "the beginning of the text, in quotation marks"

    @abstractmethod
    def texts(self, config: Any, data_dir: str | None = None) -> tuple[str, str]:
        """The training text and the validation text."""

    def load(self, config: Any, data_dir: str | None = None) -> Data:
        import tensorflow as tf

        train, validation = self.texts(config, data_dir)
        for name, part, least in (
            ("training", train, config.batch_size * (config.segment + 1) + config.segment),
            ("validation", validation, max(config.batch_size * config.segment + 1, 2 * STREAMS)),
        ):
            if len(part) < least:
                raise ConfigError(
                    f"batch_size={config.batch_size}, segment={config.segment}: expected at least "
                    f"{least} characters of {name} text; found {len(part)}."
                )
        metadata = {"vocabulary": text.adapted([train], split="character")}
        numbers = self.vectorizer(metadata)

        def dataset(part: str) -> "tf.data.Dataset":
            return tf.data.Dataset.from_tensors(tf.cast(numbers(part), "int32"))

        return Data(
            train=dataset(train),
            test=dataset(validation),
            train_size=len(train),
            test_size=len(validation),
            validation=dataset(validation),
            validation_size=len(validation),
            metadata=metadata,
            raw={"train": train, "validation": validation},
        )

    def model(self, config: Any, data: Data) -> "keras.Model":
        return self.network(config, data.metadata, stateful=True, batch_size=config.batch_size)

    def bundle(self, model: "keras.Model", config: Any, data: Data) -> "keras.Model":
        """The same network without fixed batch size or carried states."""
        stateless = self.network(config, data.metadata)
        # All trained variables; the states are not among them.
        for weight, trained in zip(
            stateless.trainable_weights, model.trainable_weights, strict=True
        ):
            weight.assign(trained)
        return super().bundle(stateless, config, data)

    def batches(
        self, dataset: "tf.data.Dataset", config: Any, training: bool = False
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
        self, model: "keras.Model", data: Data, config: Any, folder: Path
    ) -> dict[str, float]:
        import numpy as np

        ids = np.array(self.vectorizer(data.metadata)(data.raw["validation"]))
        # Use more streams if the probabilities of longer ones would not fit into memory.
        streams = STREAMS * -(-len(ids) // (STREAMS * LONGEST))
        ids = ids[: len(ids) // streams * streams].reshape(streams, -1)
        total = 0.0
        for start in range(0, streams, STREAMS):
            rows = ids[start : start + STREAMS]
            probabilities = self.trained_model(model).predict_on_batch(rows[:, :-1])
            total -= log_likelihood(probabilities, rows[:, 1:]).sum()
        return _of_nats(float(total / ids[:, 1:].size))

    def baselines(self, data: Data, config: Any) -> dict[str, float]:
        from kerasrnn.text import ngrams

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

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence[str],
        predict_options: PredictOptions,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        from kerasrnn import decoding, zoo

        how = predict_options
        sampler = decoding.Sample(how.temperature, how.top_k or None, how.top_p)
        texts = zoo.continue_texts(
            model,
            inputs,
            decoding.Greedy() if how.greedy else sampler,
            max_length=how.length,
            seed=how.seed,
        )
        return [f"\n{whole}" for whole in texts]

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
        self, model: "keras.Model", data: Data, config: Any
    ) -> dict[str, tuple["keras.Model", Sequence[Any] | bool]]:
        import numpy as np

        lines = [line for line in data.raw["validation"].split("\n") if line][:8]
        numbers = self.vectorizer(data.metadata)
        batches = [np.array(numbers(x), "int32") for x in (lines, lines[:1])]
        return self.models_to_export(model, batches, [np.array(lines, dtype=object)])

    def tiny(self) -> options.Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=4, depth=1, segment=16, batch_size=4
        )


def _of_nats(nats: float) -> dict[str, float]:
    """The loss per character in three units."""
    return {
        "validation_nats": nats,
        "validation_bits": nats / math.log(2),
        "validation_perplexity": math.exp(nats),
    }
