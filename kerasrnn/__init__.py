"""kerasrnn: recurrent networks for Keras 3.

    >>> import numpy as np
    >>> import kerasrnn
    >>> y = kerasrnn.LSTM(4, return_sequences=True)(np.zeros((2, 3, 5), "float32"))
    >>> tuple(y.shape)
    (2, 3, 4)

Public names are listed below, and those of the cells in `kerasrnn.catalogue`. They are loaded on
first use, so that the command line responds before Keras and its backend are imported. A saved
model, however, must load after a bare `import kerasrnn`: every class is registered with Keras as
soon as Keras itself is imported, before or after this package.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

import lazy_loader
from wrapt import when_imported

from kerasrnn import catalogue

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    [
        "cells",
        "constraints",
        "decoding",
        "diagnostics",
        "distributions",
        "export",
        "heads",
        "layers",
        "losses",
        "metrics",
        "recipes",
        "text",
        "training",
        "zoo",
    ],
    {
        "_version": ["__version__"],
        "attention.bahdanau": ["BahdanauAttention"],
        "attention.cell": ["AttentionCell"],
        "attention.location_sensitive": ["CoverageAttention", "LocationSensitiveAttention"],
        "attention.luong": ["LuongAttention"],
        "attention.monotonic": ["MonotonicAttention"],
        **{f"cells.{module}": names for module, names in catalogue.CLASSES.items()},
        "decoding.decoder": ["Decoder"],
        "decoding.generator": ["Generator"],
        "heads.adaptive_softmax": ["AdaptiveSoftmax"],
        "heads.crf": ["CRF"],
        "heads.forecast_parameters": ["ForecastParameters"],
        "heads.sampled_softmax": ["SampledSoftmax"],
        "heads.transducer": ["Transducer"],
        "layers.batched_time_distributed": ["BatchedTimeDistributed"],
        "layers.bidirectional": ["Bidirectional"],
        "layers.frame_stacking": ["FrameStacking"],
        "layers.missing_indicator": ["MissingIndicator"],
        "layers.pooling": ["SequencePooling"],
        "layers.sound": ["LogMel", "MFCC"],
        "layers.spec_augment": ["SpecAugment"],
        "layers.stacked": ["StackedRNN"],
        "programs": ["cache_programs"],
        "text.bigrams": ["BigramEmbedding"],
        "text.ngrams": ["NGrams"],
        "text.pieces": ["SentencePieceVectorization"],
    },
)


# In a checkout, the zoo and the recipes are beside this package, not in it. Python started there
# imports this package, even if another one is installed; an editable installation completes it.
if importlib.util.find_spec(f"{__name__}.zoo") is None:
    raise ImportError(
        f"{__file__} belongs to a checkout that is not installed in editable mode: run "
        "`pip install --editable .` there, or start Python in another folder."
    )


# The modules that import Keras and are in no package below this one. If one of them is the first
# import of a program, the classes are registered after it, since their modules import it.
_ALONE = tuple(f"{__name__}.{name}" for name in ("base_layer", "keras_internals", "validation"))
_imported: set[str] = set()
_registered = False


def _register_classes(module: ModuleType) -> None:
    global _registered
    _imported.add(module.__name__)
    begun = {"keras", *(name for name in _ALONE if name in sys.modules)}
    if _registered or not begun <= _imported:
        return
    _registered = True
    # The packages below import Keras before any of their own modules, so that none of them is
    # half-imported when this runs, in whatever order a program imports them.
    for name in __all__:
        if name[0].isupper():
            __getattr__(name)
    # Classes that a model has or is compiled with, and the classes of the zoo's models.
    packages = ("constraints", "distributions", "heads", "losses", "metrics")
    of_decoding = ("fusion", "transducer")
    of_zoo = (
        "ctc",
        "distributions",
        "pointing",
        "predictions",
        "tagging",
        "texts",
        "transcription",
        "transducer",
        "translation",
    )
    for package in (
        *packages,
        *(f"decoding.{name}" for name in of_decoding),
        *(f"zoo.{name}" for name in of_zoo),
    ):
        importlib.import_module(f"{__name__}.{package}")


for _name in ("keras", *_ALONE):
    when_imported(_name)(_register_classes)
