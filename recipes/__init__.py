"""Recipes: models trained on real data, each with one command.

Every module of this package is a recipe, and every folder contains code shared by recipes. All
recipes have the same structure: a short file that names the paper and the command; a frozen
dataclass of options; a card with the protocol and the main result; and methods that load the data
and build the model. `base/` defines this structure. `tasks/` has a base class for each kind of
recipe, which evaluates models, predicts and lists the exports. `training/` trains recipes in
the loop of `kerasrnn.training`, and `reporting/` writes cards, plots and exports of finished runs.
"""

import importlib
import pkgutil
from typing import Any

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))
"""The names of the recipes."""


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
        raise ValueError(f"recipe {name!r} does not exist; expected one of: {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{name}").RECIPE
