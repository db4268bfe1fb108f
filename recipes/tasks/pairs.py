"""Pairs of source and target texts: from the user's own file, or from a translation dataset."""

import itertools
from pathlib import Path

from kerasrnn.recipes.base import splits
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks import tables
from kerasrnn.wording import counted

Pair = tuple[str, str]

SPLITS = ("train", "validation", "test")


def read_pairs(
    path: str | Path, validation: float = 0.1, test: float = 0.1
) -> dict[str, list[Pair]]:
    """Read pairs of sources and targets by split; see `tables.read_rows` for the file format.

    The split of a pair follows only from its source, by the hash of
    `kerasrnn.recipes.base.splits`. Pairs whose sources differ only in case, spaces and punctuation
    stay together, the order of the lines does not matter, and a pair keeps its split when lines are
    added.

    Args:
        path: the file.
        validation: the approximate fraction of the sources in `validation`.
        test: the same for `test`.

    Returns:
        The pairs of `train`, `validation` and `test`, in the order of the file.

    Raises:
        DatasetError: the file cannot be read; a line, which the message names, is not a source and
            a target; or a split would be empty.
        ValueError: a fraction is not above 0, or no training data would be left.
    """
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 < fraction < 1:
            raise ValueError(f"{name}={fraction}: expected a fraction above 0 and below 1")
    if validation + test >= 1:
        raise ValueError(
            f"validation={validation}, test={test}: expected a sum below 1, "
            "so that some pairs are left to train on"
        )
    pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    for _, (source, target) in tables.read_rows(path, ("source", "target")):
        place = splits.place(source)
        split = "test" if place < test else "validation" if place < test + validation else "train"
        pairs[split].append((source, target))
    if not all(pairs.values()):
        counts = ", ".join(f"{len(part)} in {split}" for split, part in pairs.items())
        total = counted(sum(map(len, pairs.values())), "pair")
        raise DatasetError(
            f"{path}: expected at least one pair in each part; its {total} gave {counts}. Add "
            f"pairs with other sources: {splits.enough(min(validation, test))} different sources "
            "nearly always suffice."
        )
    return pairs


def load_translations(
    name: str,
    source: str,
    target: str,
    data_dir: str | None = None,
    limit: int | None = None,
) -> dict[str, list[Pair]]:
    """Load the pairs of a translation dataset by split.

    Texts are stripped. Pairs with an empty side, as they occur in web-crawled data, are dropped
    from `train`.

    Args:
        name: a dataset of this package or of the TFDS catalogue with one text feature per language:
            `multi30k`, `tatoeba/fr`, `ted_hrlr_translate/pt_to_en`, `wmt14_translate/de-en`.
        source: the source language, as named by the dataset.
        target: the target language.
        data_dir: the TFDS data directory; default: TFDS's own.
        limit: largest number of pairs of `train`. TFDS has shuffled them.

    Returns:
        The pairs of `train`, `validation` and `test`.

    Raises:
        ConfigError: the dataset lacks one of the languages, or both are the same; or `limit` is
            below 1.
    """
    import tensorflow_datasets as tfds

    from kerasrnn.recipes import datasets

    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit}: expected 1 or more.")
    features = datasets.builder(name, data_dir).info.features
    languages = sorted(
        key for key, feature in features.items() if isinstance(feature, tfds.features.Text)
    )
    for argument, language in (("source", source), ("target", target)):
        if language not in languages:
            raise ConfigError(
                f"{argument}={language!r}: expected a language of {name}, which has "
                f"{', '.join(languages) or 'no texts by language'}."
            )
    if source == target:
        raise ConfigError(f"target={target!r}: expected a language other than source.")

    loaded, _ = datasets.load(name, SPLITS, data_dir)
    pairs = {}
    for split, examples in loaded.items():
        # Read in batches: one by one, pairs take more than ten times as long.
        batches = examples.map(lambda x: (x[source], x[target])).batch(1024).as_numpy_iterator()
        texts = (
            (x.decode("utf-8").strip(), y.decode("utf-8").strip())
            for batch in batches
            for x, y in zip(*batch, strict=True)
        )
        if split == "train":
            texts = itertools.islice((pair for pair in texts if all(pair)), limit)
        pairs[split] = list(texts)
    return pairs
