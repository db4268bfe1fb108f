"""The command line interface, with one module per command."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "main": ["run"],
        "quiet": ["quietly_import_tensorflow"],
    },
)
