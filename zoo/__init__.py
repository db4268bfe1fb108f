"""The model zoo: functions that return Keras models, one module per topology.

>>> from kerasrnn import zoo
>>> model = zoo.many_to_one(zoo.Vectors(12), zoo.Classes(9), cell="gru", units=8)
>>> model.output_shape
(None, 9)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    # No module has the name of a function: importing such a module would replace the function.
    submod_attrs={
        "cells": ["layer_class"],
        "copying": ["copied_ids"],
        "ctc": ["CTC"],
        "distributions": ["Mixture", "NegativeBinomial", "Normal", "Quantiles", "StudentT"],
        "inputs": ["Images", "Inputs", "Labels", "Tokens", "Vectors"],
        "outputs": [
            "AdaptiveClasses",
            "Classes",
            "MultiLabel",
            "Output",
            "SampledClasses",
            "Values",
        ],
        "pointing": ["Pointers", "pointed", "pointer_network", "pointer_targets"],
        "predictions": ["decoded"],
        "generation": ["generator"],
        "model": ["Model"],
        "saved": ["SavedModelError", "folder", "load", "trained"],
        "sequence_to_sequence": ["encoder_decoder"],
        "sequence_to_vector": ["many_to_one"],
        "step_to_step": ["many_to_many", "next_step"],
        "stepping": ["Parts", "encoder_and_step"],
        "reading": ["target_ids"],
        "tagging": ["Tags"],
        "texts": ["continue_texts", "of_ids", "of_texts"],
        "transcription": ["Stream", "Transcriber", "Transcription", "transcriber"],
        "transducer": ["Transducer"],
        "translation": ["Translation", "Translator"],
        "vector_to_sequence": ["one_to_many"],
        "vector_to_vector": ["one_to_one"],
    },
)

# Before any module here, and after the names: see kerasrnn/cells/__init__.py.
import keras  # noqa: E402, F401
