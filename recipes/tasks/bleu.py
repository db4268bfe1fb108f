"""BLEU and chrF of texts, computed by sacreBLEU, and BLEU by the length of the source."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrnn.recipes.base.errors import DatasetError

QUANTILES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.96, 1.0)
"""Quantiles that group the sentences by length. Attention was designed for the few long ones."""


def metric(language: str = "") -> Any:
    """sacreBLEU's BLEU, with the tokenizer of a language.

    Raises:
        DatasetError: a package that the tokenizer needs is not installed.
    """
    from sacrebleu.metrics import BLEU

    try:
        return BLEU(trg_lang=language)
    except (ImportError, RuntimeError) as error:
        raise DatasetError(
            f"target={language!r}: sacreBLEU's tokenizer needs missing packages "
            f"(pip install 'kerasrnn[japanese]' for ja): {error}"
        ) from error


def bleu(
    references: Sequence[Sequence[str]], predictions: Sequence[str], language: str = ""
) -> float:
    """BLEU of texts, given all references of each."""
    return metric(language).corpus_score(list(predictions), _columns(references)).score


def chrf(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> float:
    """chrF of texts, given all references of each."""
    from sacrebleu.metrics import CHRF

    return CHRF().corpus_score(list(predictions), _columns(references)).score


def draw_by_length(
    variants: Mapping[str, Sequence[tuple[Any, Sequence[Mapping[str, Any]]]]],
    scores: Callable[[Sequence[Sequence[str]], Sequence[str], Any], Mapping[str, float]],
    path: Path,
) -> None:
    """Draw BLEU against the length of the source.

    Args:
        variants: by name, for each seed, the configuration and the written sentences, as
            `text_to_text.written` returns them.
        scores: the metrics of texts, given their references, the texts and the configuration.
        path: the picture.
    """
    import numpy as np

    from kerasrnn.recipes.reporting import pictures

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
                scores(
                    [predictions[n]["references"] for n in part],
                    [predictions[n]["written"] for n in part],
                    config,
                )["test_bleu"]
                for part in parts
            ]
            for config, predictions in seeds
        ]
        for variant, seeds in variants.items()
    }
    pictures.curves(curves, names, "words in the source (sentences)", "BLEU", path)


def _columns(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    # sacreBLEU takes the first references of all, the second ones, ...; None if missing.
    return [list(column) for column in itertools.zip_longest(*references)]
