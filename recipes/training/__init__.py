"""Training of recipes: `kerasrnn.training` with a recipe's model, batches and options."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "from_config": ["batches", "optimizer"],
        "running": ["fit", "train"],
    },
)
