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

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.tasks.streams import StreamedText
from kerasrnn.recipes.tasks.text import read_text


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
    epochs: int = options.default("epochs", 16)
    batch_size: int = options.option(64, "number of parallel streams", low=1)
    learning_rate: float = options.default("learning_rate", 4e-3)
    warmup: float = options.default("warmup", 0.1)
    cell: str = options.cell("lstm")
    embedding: int = options.option(128, "size of the character embeddings", low=1)
    units: int = options.option(512, "units of each recurrent layer", low=1)
    depth: int = options.option(2, "number of stacked layers", low=1)
    dropout: float = options.option(0.5, "dropout rate", low=0.0, below=1.0)


class CharLm(StreamedText):
    """A recurrent network reads characters and predicts the next one at each step."""

    name = "char_lm"
    dataset = "karpathy_shakespeare"
    card = Card(
        title="Character-level language modeling on Shakespeare",
        topology="synced many-to-many, stateful",
        result=(
            "validation loss 1.450 nats per character with LSTM, in an hour on one core; 6-grams: "
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
    variants: ClassVar = {
        "LSTM": {},
        "LSTM, small": {"units": 384, "dropout": 0.4},
        "GRU": {"cell": "gru"},
    }
    published_variant = "LSTM, small"

    def texts(self, config: Config, data_dir: str | None = None) -> tuple[str, str]:
        if config.data:
            content = read_text(config.data)
            cut = len(content) * 9 // 10
            return content[:cut], content[cut:]
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(config.dataset, ("train", "validation"), data_dir)
        train, validation = (
            "".join(x["text"].decode() for x in split.as_numpy_iterator())
            for split in splits.values()
        )
        return train, validation


RECIPE: Any = CharLm()
