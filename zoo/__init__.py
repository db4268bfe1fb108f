"""The zoo: one file per topology, functions that return Keras models.

>>> from kerasrnn import zoo
>>> model = zoo.many_to_one(features=12, classes=9, cell="gru", units=8)
>>> model.output_shape
(None, 9)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"cells": ["layer_class"], "sequence_to_vector": ["many_to_one"]}
)
