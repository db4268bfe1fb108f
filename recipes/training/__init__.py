"""Training: one resumable loop for all recipes, on one or several devices."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["Batches"],
        "fitting": ["fit", "train"],
        "placement": ["Placement"],
        "progress": ["Progress"],
    },
)
