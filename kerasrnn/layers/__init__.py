"""Layers made of recurrent layers: directions and stacks."""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)
