"""A sentence in another language.

Papers: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
translate", ICLR, arXiv 1409.0473; Sutskever, Vinyals & Le (2014), "Sequence to sequence learning
with neural networks", NeurIPS, for the model without attention. Data: Elliott, Frank, Sima'an &
Specia (2016), "Multi30K: multilingual English-German image descriptions".

    kerasrnn train translate
    kerasrnn train translate --attention none
    kerasrnn train translate --source en --target de
    kerasrnn train translate --dataset tatoeba/fr --source en --target fr
    kerasrnn train translate --data pairs.tsv       (lines of source, tab, target)
    kerasrnn predict translate "Zwei Hunde spielen im Schnee."

It draws where each word looked.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kerasrnn.recipes import config as options
from kerasrnn.recipes import pairs, text, text_to_text
from kerasrnn.recipes.recipe import Published
from kerasrnn.recipes.text_to_text import TextToText

DATASETS = (
    "multi30k",
    "tatoeba/de",
    "tatoeba/es",
    "tatoeba/fr",
    "tatoeba/ja",
    "ted_hrlr_translate/az_to_en",
    "ted_hrlr_translate/be_to_en",
    "ted_hrlr_translate/gl_to_en",
    "ted_hrlr_translate/pt_to_en",
    "ted_hrlr_translate/ru_to_en",
    "ted_hrlr_translate/tr_to_en",
    "wmt14_translate/cs-en",
    "wmt14_translate/de-en",
    "wmt14_translate/fr-en",
    "wmt14_translate/hi-en",
    "wmt14_translate/ru-en",
)


@dataclass(frozen=True)
class Config(text_to_text.Config):
    """What varies."""

    dataset: str = options.option(
        "multi30k",
        "sentences with their translations: descriptions of pictures; phrases of a package; or of "
        "TFDS's catalogue, which needs a network",
        choices=DATASETS,
    )
    source: str = options.option("de", "the language that is read, as the dataset calls it")
    target: str = options.option("en", "the language that is written")
    limit: int = options.option(200_000, "training pairs at most", low=1)
    data: str = options.option(
        "",
        "a file of your own instead, lines of source, tab, target; a tenth of the sources is held "
        "out to choose by, a tenth to judge by",
    )
    symbols: str = options.option(
        "pieces",
        "what is read and written: SentencePiece's pieces of words, words, or characters",
        choices=text.KINDS,
    )
    vocabulary: int = options.option(
        6_000, "symbols of each side that have a vector of their own", low=1
    )
    epochs: int = options.option(20, "passes over the training data", low=1)
    batch_size: int = options.option(64, "pairs a step", low=1)
    learning_rate: float = options.option(1e-3, "highest learning rate", low=1e-6)
    embedding: int = options.option(256, "width of a symbol's vector", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data:
            self.refuse_ignored("data", "dataset", "source", "target", "limit")


class Translate(TextToText):
    """An encoder reads a sentence, a decoder says it in another language."""

    name = "translate"
    title = "A sentence in another language"
    dataset = "multi30k"
    result = "no figure yet: the training is being worked on"
    protocol = (
        "Trained on Multi30k's 29,000 sentences with their translations, judged on its "
        "test_2016_flickr of 1,000. BLEU and chrF are sacreBLEU's, of whole sentences as they are, "
        "with their capitals: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp. Nothing has "
        "been chosen yet; 1,014 validation sentences are there to choose by."
    )
    Config = Config
    variants: ClassVar = {
        "German to English, Bahdanau": {},
        "German to English, context only": {"attention": "none"},
        "English to German, Bahdanau": {"source": "en", "target": "de"},
    }
    metrics = ("test_bleu", "test_chrf")
    lengths = (12, 16, 20, 28, 48)
    asks = "sentences, each in quotation marks"
    published = (
        Published("German to English, Bahdanau", "msarmi9/multi30k", {"test_bleu": 33.47}),
        Published("German to English, attention", "maximus-21", {"test_bleu": 38.45}),
        Published("German to English, no attention", "maximus-21", {"test_bleu": 18.76}),
    )

    def pairs(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[pairs.Pair]]:
        if config.data:
            return pairs.read_pairs(config.data)
        return pairs.load_translations(
            config.dataset, config.source, config.target, data_dir, config.limit
        )

    def kinds(self, config: Config) -> tuple[str, str]:
        return config.symbols, config.symbols

    def sizes(self, config: Config) -> tuple[int, int]:
        return config.vocabulary, config.vocabulary

    def scores(self, references: Sequence[Sequence[str]], said: Sequence[str]) -> dict[str, float]:
        import itertools

        from sacrebleu.metrics import BLEU, CHRF

        # sacreBLEU wants the first references of all, the second ones, ...; None where none is.
        columns = [list(column) for column in itertools.zip_longest(*references)]
        return {
            "test_bleu": BLEU().corpus_score(list(said), columns).score,
            "test_chrf": CHRF().corpus_score(list(said), columns).score,
        }

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), symbols="words", vocabulary=40)


RECIPE: Any = Translate()
