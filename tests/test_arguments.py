"""Every public signature refuses invalid values with an error that names the argument.

A new public name fails here until it has a valid call below.
"""

import contextlib
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import kerasrnn
from kerasrnn import (
    constraints,
    decoding,
    diagnostics,
    export,
    losses,
    metrics,
    text,
    training,
    zoo,
)
from tests.catalogue import IMAGE_ROWS, PROBES, ROWS

X = np.ones((2, 3, 2), "float32")
IDS = np.ones((2, 3), "int32")

# Valid arguments besides the one under test.
OF_CELLS = {name: lambda: {"units": 3} for name in kerasrnn.__all__ if name.endswith("Cell")}
OF_LAYERS = {
    name: lambda: {"units": 3}
    for name in kerasrnn.__all__
    if hasattr(getattr(kerasrnn, name), "cell_class")
}
OF_IMAGES = {
    name: lambda: {"filters": 3, "kernel_size": 2}
    for name in kerasrnn.__all__
    if name.startswith("Conv")
}
VALID: dict[str, Callable[[], dict[str, Any]]] = {
    **OF_CELLS,
    **OF_LAYERS,
    **OF_IMAGES,
    "Cell": lambda: {"units": 3},
    "RNN": lambda: {"cell": kerasrnn.GRUCell(3)},
    "AttentionCell": lambda: {
        "cell": kerasrnn.GRUCell(3),
        "attention": kerasrnn.BahdanauAttention(3),
    },
    "FeedbackCell": lambda: {"cell": kerasrnn.GRUCell(3), "units": 3},
    "WrappingCell": lambda: {"cell": kerasrnn.GRUCell(3), "units": 3},
    "BahdanauAttention": lambda: {"units": 3},
    "CoverageAttention": lambda: {"units": 3},
    "LocationSensitiveAttention": lambda: {"units": 3},
    "LuongAttention": dict,
    "MonotonicAttention": lambda: {"attention": kerasrnn.BahdanauAttention(3)},
    "Bidirectional": lambda: {"layer": kerasrnn.GRU(2)},
    "StackedRNN": lambda: {"layers": [kerasrnn.GRU(2)]},
    "BigramEmbedding": lambda: {"pairs": 4, "units": 3},
    "RotationInitializer": dict,
    "ChronoInitializer": lambda: {"longest": 10, "signs": kerasrnn.LSTMCell.memory_signs},
    "BatchedTimeDistributed": lambda: {"layer": keras.layers.Dense(2)},
    "MissingIndicator": dict,
    "SequencePooling": dict,
    "LogMel": dict,
    "MFCC": dict,
    "SpecAugment": dict,
    "Decoder": lambda: {"size": 5, "layers": [kerasrnn.GRU(3)]},
    "Generator": lambda: {"decoder": kerasrnn.Decoder(5, [kerasrnn.GRU(3)])},
    "Beam": dict,
    "ForbiddenSymbols": lambda: {"ids": [1]},
    "ForbiddenPhrases": lambda: {"phrases": [[1]]},
    "RequiredPhrases": lambda: {"phrases": [[1]]},
    "PointerGenerator": lambda: {"size": 3, "copied": 2},
    "ForcedPrefix": lambda: {"ids": [[1]]},
    "MinimumLength": lambda: {"length": 1},
    "NoRepeatNGrams": lambda: {"n": 2},
    "RepetitionPenalty": lambda: {"penalty": 1.5},
    "Bernoulli": dict,
    "Draw": dict,
    "Sample": dict,
    "Threshold": dict,
    "ScheduledSampling": lambda: {"k": 5.0},
    "GuidedAlignment": dict,
    "SequenceCrossentropy": dict,
    "sequence_crossentropy": lambda: {"y_true": IDS, "y_pred": np.full((2, 3, 2), 0.5)},
    "EditDistance": dict,
    "edit_distance": lambda: {"references": IDS, "hypotheses": IDS},
    "Perplexity": dict,
    "SequenceAccuracy": dict,
    "TokenAccuracy": dict,
    "GradientFlow": lambda: {"x": X, "loss": _total},
    "diagnose": lambda: {"model": _model(), "x": X, "loss": _total},
    "masks": lambda: {"model": _model()},
    "compare": lambda: {"diagnoses": {"nothing": None}},
    "from_keras": lambda: {"source": keras.layers.GRU(2)},
    "to_keras": lambda: {"source": kerasrnn.GRU(2)},
    "from_onnx": lambda: {"path": "no.onnx"},
    "to_int8": lambda: {"source": "no.onnx", "path": "no.onnx"},
    "to_litert": lambda: {"model": _model(), "path": "no.tflite"},
    "to_onnx": lambda: {"model": _model(), "path": "no.onnx"},
    "to_saved_model": lambda: {"model": _model(), "path": "no"},
    "to_step": lambda: {"model": _model()},
    "Classes": lambda: {"count": 3},
    "MultiLabel": lambda: {"count": 3},
    "Values": lambda: {"count": 3},
    "Labels": lambda: {"count": 3},
    "Tokens": lambda: {"vocabulary": 5},
    "Vectors": lambda: {"features": 2},
    "Images": lambda: {"shape": (8, 8, 1)},
    "many_to_one": lambda: {"inputs": zoo.Vectors(2), "outputs": zoo.Classes(2), "units": 2},
    "many_to_many": lambda: {"inputs": zoo.Vectors(2), "outputs": zoo.Classes(2), "units": 2},
    "one_to_many": lambda: {"inputs": zoo.Vectors(2), "outputs": zoo.Classes(3), "units": 2},
    "one_to_one": lambda: {"inputs": zoo.Vectors(2), "outputs": zoo.Classes(2), "hidden": (2,)},
    "next_step": lambda: {"outputs": zoo.Classes(3), "units": 2},
    "encoder_decoder": lambda: {"inputs": zoo.Tokens(5, 3), "outputs": zoo.Classes(4), "units": 2},
    "generator": lambda: {"model": _language_model()},
    "Placement": lambda: {"strategy": "one"},
    "Progress": dict,
    "adamw": lambda: {"steps": 10},
}
# Results, protocols, and names whose arguments are tested elsewhere.
ELSEWHERE = {
    **dict.fromkeys(("AdaptiveSoftmax", "SampledSoftmax"), "tests/heads/test_large_softmax.py"),
    "CRF": "tests/heads/test_crf.py",
    "CRFLoss": "tests/heads/test_crf_in_fit.py",
    **dict.fromkeys(("CRPS", "CalibrationError", "Coverage"), "tests/metrics/test_forecasts.py"),
    **dict.fromkeys(
        ("NegativeLogLikelihood", "QuantileLoss", "StandardizedSquaredError"),
        "tests/losses/test_forecasts.py",
    ),
    **dict.fromkeys(
        ("ForecastParameters", "Mixture", "NegativeBinomial", "Normal", "Quantiles", "StudentT"),
        "tests/zoo/test_distributions.py and tests/distributions",
    ),
    "CTC": "tests/losses/test_ctc.py and tests/zoo/test_ctc.py",
    "CTCBeam": "tests/decoding/test_ctc.py",
    "CTCGreedy": "tests/decoding/test_ctc.py",
    "CharacterErrorRate": "tests/metrics/test_error_rates.py",
    "Ensemble": "tests/zoo/test_copying.py",
    "LanguageModel": "a base class",
    "LanguageModelFusion": "tests/decoding/test_control.py",
    "NGramLanguageModel": "tests/decoding/test_ctc.py",
    "NGrams": "tests/text/test_ngrams.py",
    "RecurrentLanguageModel": "tests/decoding/test_ctc.py",
    "SpanF1": "tests/metrics/test_spans.py",
    "Tags": "tests/zoo/test_tagging.py",
    "FrameStacking": "tests/layers/test_frame_stacking.py",
    "Stream": "made by Transcriber.stream",
    "Transcriber": "tests/zoo/test_transcription.py",
    "Transcription": "a result",
    "transcriber": "tests/zoo/test_transcription.py",
    "Transducer": "tests/heads/test_transducer.py and tests/losses/test_transducer.py",
    "TransducerBeam": "tests/decoding/test_transducer.py",
    "TransducerGreedy": "tests/decoding/test_transducer.py",
    "WordErrorRate": "tests/metrics/test_error_rates.py",
    "AdamW": "Keras's arguments",
    "Batches": "tests/training/test_batches.py",
    "BeamSearch": "made by Generator",
    "Diagnosis": "a result",
    "History": "made by Generator",
    "cache_programs": "tests/test_programs.py",
    "encoder_and_step": "tests/zoo/test_stepping.py",
    "GateDiagnosis": "a result",
    "KernelDiagnosis": "a result",
    "Inputs": "tests/zoo/test_inputs.py",
    "LayerDiagnosis": "a result",
    "Model": "tests/zoo/test_model.py",
    "MaskFlow": "a result",
    "MaskedLayer": "a result",
    "Parts": "a result",
    "Policy": "a protocol",
    "Report": "a result",
    "Sampling": "made by Generator",
    "SentencePieceVectorization": "tests/text/test_pieces.py",
    "Sequences": "a result",
    "Training": "tests/training/test_fitting.py",
    "StateDiagnosis": "a result",
    "Translation": "a result",
    "Translator": "tests/zoo/test_translation.py",
    "average_weights": "tests/training/test_averaging.py",
    "bucketed": "tests/training/test_bucketing.py",
    **dict.fromkeys(("AdaptiveClasses", "SampledClasses"), "tests/zoo/test_large_classes.py"),
    "copied_ids": "tests/zoo/test_copying.py",
    "PointerDecoder": "tests/decoding/test_pointing.py",
    **dict.fromkeys(
        ("Pointers", "pointed", "pointer_network", "pointer_targets"), "tests/zoo/test_pointing.py"
    ),
    "continue_texts": "tests/zoo/test_texts.py",
    "decode": "called by Generator",
    "decoded": "tests/zoo/test_outputs.py",
    "fit": "tests/training/test_fitting.py",
    "folder": "tests/zoo/test_saved.py",
    "from_torch": "tests/export/test_torch_modules.py",
    "layer_class": "tests/zoo/test_names.py",
    "load": "tests/zoo/test_saved.py",
    "of_ids": "tests/zoo/test_texts.py",
    "of_texts": "tests/zoo/test_texts.py",
    "target_ids": "tests/zoo/test_translation.py",
    "to_torch": "tests/export/test_torch_modules.py",
}

POOL = [
    *("no", "", b"last", None, True, 0, 1, -1, 0.5, 1e300, 10**400, 1j),
    *(float("nan"), float("inf"), [], {}, object(), np.array([True, False])),
]


def _is(kind: type, value: Any) -> bool:
    """Whether a value is of a scalar type, as readers understand the signature."""
    if kind is type(None):
        return value is None
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) < 1e308
    return isinstance(value, kind)


def _total(*arguments: Any) -> Any:
    """A loss, with targets or without."""
    return keras.ops.sum(arguments[-1])


@functools.cache
def _model() -> keras.Model:
    return keras.Sequential([keras.Input((None, 2)), kerasrnn.GRU(2)])


@functools.cache
def _language_model() -> keras.Model:
    return zoo.next_step(zoo.Classes(3), units=2)


def _public() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    packages = (constraints, decoding, losses, metrics, diagnostics, export, text, training, zoo)
    for module in (kerasrnn, *packages):
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value) or (inspect.isclass(value) and issubclass(value, BaseException)):
                continue
            if inspect.signature(value).parameters:
                found[name] = value
    return found


PUBLIC = _public()
# An argument that cells share is declared once for all of them, and tested on the probes.
OF_PROBES = {
    name
    for row in PROBES
    for cls in (row.cell, row.layer)
    for name in inspect.signature(cls).parameters
}
OTHER_CELLS = [
    cls.__name__
    for row in (*ROWS, *IMAGE_ROWS)
    if row not in PROBES
    for cls in (row.cell, row.layer)
]


def _tested(name: str) -> list[inspect.Parameter]:
    parameters = inspect.signature(PUBLIC[name]).parameters.values()
    return [p for p in parameters if name not in OTHER_CELLS or p.name not in OF_PROBES]


def _scalars(parameter: inspect.Parameter) -> set[Any]:
    """The scalar types that a parameter takes by its annotation or default; empty: any object."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return {bool} if isinstance(parameter.default, bool) else set()
    members = [annotation]
    if get_origin(annotation) in (typing.Union, types.UnionType):
        members = list(get_args(annotation))
    scalars: set[Any] = set()
    for member in members:
        if get_origin(member) is typing.Annotated:
            member = member.__origin__
        if get_origin(member) is Literal:
            scalars |= {type(choice) for choice in get_args(member)}
        elif member in (bool, int, float, str, type(None)):
            scalars.add(member)
        else:
            return set()
    return scalars


SCALARS = [
    (name, parameter.name, frozenset(scalars))
    for name in PUBLIC
    if name in VALID
    for parameter in _tested(name)
    if (scalars := _scalars(parameter))
]
OTHERS = [
    (name, parameter.name)
    for name in PUBLIC
    if name in VALID
    for parameter in _tested(name)
    # A metric's `dtype` is checked by Keras.
    if parameter.kind is not parameter.VAR_KEYWORD
    and parameter.name != "dtype"
    and not _scalars(parameter)
]


def test_every_public_signature_is_tested():
    assert set(PUBLIC) == set(VALID) | set(ELSEWHERE)
    assert not set(VALID) & set(ELSEWHERE)
    assert len(SCALARS) > 300


@pytest.mark.parametrize("name", sorted({name for name, *_ in SCALARS}))
def test_invalid_scalars_are_refused(name):
    valid = VALID[name]()  # no call uses them, since each raises an error
    for other, argument, scalars in SCALARS:
        if other != name:
            continue
        wrong = [value for value in POOL if not any(_is(kind, value) for kind in scalars)]
        assert wrong
        for value in wrong:
            with pytest.raises((ValueError, TypeError), match=rf"\b{argument}\b"):
                PUBLIC[name](**{**valid, argument: value})


bad = st.one_of(
    st.sampled_from([object(), b"bytes", 1j, "no such thing", "", -1, 2.5, np.ones((2, 2, 2, 2))]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@pytest.fixture(scope="module", autouse=True)
def _somewhere_else(tmp_path_factory):
    """A working folder for arguments that are paths."""
    with contextlib.chdir(tmp_path_factory.mktemp("arguments")):
        yield


@pytest.mark.filterwarnings("ignore")
@hypothesis.settings(max_examples=400, derandomize=True)
@hypothesis.given(st.sampled_from(OTHERS), bad)
def test_invalid_objects_are_refused(case, value):
    """A value is either accepted, or refused by an error that names its argument."""
    name, argument = case
    try:
        PUBLIC[name](**{**VALID[name](), argument: value})
    except FileNotFoundError as error:
        assert error.filename in (value, *VALID[name]().values())  # noqa: PT017
    except (ValueError, TypeError) as error:
        assert argument in str(error), error  # noqa: PT017
