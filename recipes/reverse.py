"""String reversal: a toy task that shows attention at work, in a minute.

Paper: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
translate", ICLR, arXiv 1409.0473, for the model.

    kerasrnn train reverse
    kerasrnn predict reverse stressed

In the plot, the attention weights lie on the anti-diagonal.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.tasks import text_to_text
from kerasrnn.recipes.tasks.pairs import Pair
from kerasrnn.recipes.tasks.text_to_text import TextToText

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST = 3
HELD_OUT = 500


@dataclass(frozen=True)
class Config(text_to_text.Config):
    """The recipe's options."""

    examples: int = options.option(20_000, "number of training strings", low=1)
    longest: int = options.option(10, "largest length of a string", low=SHORTEST, high=31)
    epochs: int = options.default("epochs", 4)
    learning_rate: float = options.default("learning_rate", 5e-3)
    cell: str = options.cell("gru")
    embedding: int = options.option(32, "size of the letter embeddings", low=1)
    units: int = options.option(64, "units of each recurrent layer", low=1)
    dropout: float = options.option(0.0, "dropout rate", low=0.0, below=1.0)
    label_smoothing: float = options.option(0.0, "label smoothing", low=0.0, below=1.0)


class Reverse(TextToText):
    """An encoder reads letters; a decoder writes them in reverse order."""

    name = "reverse"
    dataset = "generated from the seed"
    card = Card(
        title="String reversal: a toy task for attention",
        topology="many-to-many of unequal length",
        result=(
            "100% of unseen strings right with attention, in about a minute; without attention: "
            "47% (means of three seeds)"
        ),
        protocol=(
            "Random strings of letters, of all lengths from 3 to the maximum. Test strings are "
            "drawn from another seed, and none of them is a training string."
        ),
        metrics=("test_sequence_accuracy", "test_letter_error_rate"),
        limits=(
            "A toy model: it reverses strings of up to ten lower-case letters and has never seen "
            "longer ones."
        ),
    )
    Config = Config
    search_space: ClassVar = {
        **TextToText.search_space,
        "embedding": space.powers(16, 64),
        "units": space.powers(16, 128),
    }
    variants: ClassVar = {
        "Bahdanau": {"attention": "bahdanau"},
        "Luong": {"attention": "luong"},
        "context only": {"attention": "none"},
    }
    published_variant = "Bahdanau"
    lengths = (8, 12, 16, 24, 32)
    input_help = "strings of letters from a to z"

    def pairs(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[Pair]]:
        import numpy as np

        known: set[str] = set()
        by_split = {}
        # Draw held-out strings first, so that they do not depend on the number of examples.
        for number, (split, count) in enumerate(
            (("test", HELD_OUT), ("validation", HELD_OUT), ("train", config.examples))
        ):
            random = np.random.default_rng([number, config.seed if split == "train" else 0])
            words = _draw(random, count, config.longest)
            if split != "train":
                known.update(words)
            else:
                words = [word for word in words if word not in known]
            by_split[split] = [(word, word[::-1]) for word in words]
        return by_split

    def kinds(self, config: Config) -> tuple[str, str]:
        return "characters", "characters"

    def scores(
        self, references: Sequence[Sequence[str]], predictions: Sequence[str], config: Config
    ) -> dict[str, float]:
        import jiwer

        expected = [right[0] for right in references]
        return {
            "test_sequence_accuracy": sum(map(str.__eq__, expected, predictions)) / len(expected),
            "test_letter_error_rate": float(jiwer.cer(expected, list(predictions))),
        }

    def parse_input(self, text: str) -> str:
        if not text or set(text) - set(LETTERS):
            raise ConfigError(f"{text!r}: expected letters from a to z.")
        return text

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), examples=200, longest=5, beam=2)


def _draw(random: Any, count: int, longest: int) -> list[str]:
    lengths = random.integers(SHORTEST, longest + 1, count)
    return ["".join(random.choice(list(LETTERS), length)) for length in lengths]


RECIPE: Any = Reverse()
