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

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.tasks.tagged_text import Line
from kerasrnn.recipes.tasks.tagging import Config, Tagging

# The corpus uses full-width characters throughout, including letters and digits.
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}


class WordSegmentation(Tagging):
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

    def lines(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[Line]]:
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(self.dataset, ("train", "validation", "test"), data_dir)
        return {
            split: [
                Line([word.decode() for word in x["words"]], [tag.decode() for tag in x["tags"]])
                for x in examples.as_numpy_iterator()
            ]
            for split, examples in splits.items()
        }

    def normalize(self, text: str) -> str:
        return text.translate(WIDE)


RECIPE: Any = WordSegmentation()
