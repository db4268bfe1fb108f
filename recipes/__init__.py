"""Recipes: models trained on real data, each with one command.

All recipes have the same structure: a short file that names the paper and the command; a frozen
dataclass of options; a card with the protocol and the main result; and methods that load the data,
build the model and evaluate it. `base/` defines this structure, `tasks/` has what recipes of one
kind share, `training/` the single training loop, and `reporting/` what is made of finished runs.
"""

import importlib
from typing import Any

NAMES = (
    "bach_chorales",
    "char_lm",
    "fashion_mnist",
    "g2p",
    "hanzi_structure",
    "image_captions",
    "japanese_vowels",
    "long_memory",
    "molecules",
    "movie_sentiment",
    "reverse",
    "translate",
    "word_segmentation",
)


def hypermodel(*args: Any, **kwargs: Any) -> Any:
    """A `keras_tuner.HyperModel` of recurrent networks for your own data.

    See `kerasrnn.recipes.tuning.hypermodels.hypermodel`.
    """
    return importlib.import_module(f"{__name__}.tuning").hypermodel(*args, **kwargs)


def load(name: str) -> Any:
    """Return a recipe by name.

    Raises:
        ValueError: the recipe does not exist; the message lists the existing ones.
    """
    if name not in NAMES:
        raise ValueError(f"recipe {name!r} does not exist; there are: {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{name}").RECIPE
