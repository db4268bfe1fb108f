"""Recurrent cells and their layers, one file per paper.

A cell declares its gates, its weights and its pointwise `update`; `kerasrnn.recurrence` does the
rest.

>>> import kerasrnn
>>> kerasrnn.cells.LSTMCell is kerasrnn.LSTMCell
True
"""

import lazy_loader

from kerasrnn import catalogue

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=catalogue.CLASSES)

# Before any module here (see kerasrnn/__init__.py), and after the names, which are needed
# meanwhile: importing Keras registers all classes, and `kerasrnn.layers` has the cells' classes.
import keras  # noqa: E402, F401
