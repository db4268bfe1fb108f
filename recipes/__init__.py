"""Recipes: models trained on real data, each with one command.

Once you know one recipe, you know the structure of all of them: a short file that says the paper,
the command, the time it takes and the result it reached; a frozen dataclass of what varies; and
how to load the data, build the model and judge it. The loop that trains them is in `training/`,
and there is no other.
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
    """A `keras_tuner.HyperModel` of recurrent networks for data of one's own.

    See `kerasrnn.recipes.tuning.hypermodels.hypermodel`.
    """
    return importlib.import_module(f"{__name__}.tuning").hypermodel(*args, **kwargs)


def load(name: str) -> Any:
    """A recipe by its name.

    Raises:
        ValueError: there is no such recipe; the message lists those there are.
    """
    if name not in NAMES:
        raise ValueError(f"recipe {name!r} does not exist; there are: {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{name}").RECIPE
