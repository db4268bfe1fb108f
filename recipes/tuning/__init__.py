"""Hyperparameter search on validation data."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "hypermodels": ["hypermodel"],
        "options": ["SearchOptions"],
        "results": ["Outcome", "table"],
        "search": ["Search", "TuningError"],
        "tuner": ["TrialFailedError", "Tuner", "measured"],
        "tuning": ["tune"],
    },
)
