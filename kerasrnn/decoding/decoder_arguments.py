"""The checks of a decoder's arguments: those of its constructor, and the shapes in its calls."""

from collections.abc import Sequence
from typing import Any

import keras

from kerasrnn.attention.attention import Attention
from kerasrnn.base_layer import fits
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.states import flat_shapes
from kerasrnn.decoding.scheduled_sampling import ScheduledSampling
from kerasrnn.distributions.forecast import Forecast
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.parts import check_recurrent
from kerasrnn.validation import ArgumentError

KINDS = ("classes", "flags", "values")
CONTEXTS = (None, "first", "every", "state", "both")


def check_options(
    size: int,
    kind: str,
    context: str | None,
    tied: bool,
    sampling: Any,
    padding: float | None,
    stateful: bool,
    forecast: Any = None,
) -> None:
    """Raise ValueError unless these arguments of the constructor fit each other."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    if context not in CONTEXTS:
        raise ValueError(f"context={context!r}: expected one of {', '.join(map(repr, CONTEXTS))}.")
    if kind == "classes" and size < 2:
        raise ValueError(f"size={size!r}: expected at least 2 classes, since 0 is padding.")
    if tied and kind != "classes":
        raise ValueError(f"tied=True: expected kind='classes', received {kind!r}.")
    if padding is not None and kind == "classes":
        raise ValueError(f"padding={padding!r}: with kind='classes' it is 0; expected None.")
    if stateful and context is not None:
        raise ValueError(
            f"stateful=True: a batch that begins with a context={context!r} does not continue "
            "another one; expected context=None."
        )
    if sampling is not None and not isinstance(sampling, ScheduledSampling):
        raise ValueError(f"sampling={sampling!r}: expected a ScheduledSampling or None.")
    if forecast is not None:
        if not isinstance(forecast, Forecast) or forecast.size != size:
            raise ArgumentError(
                "forecast", forecast, f"a forecast of kerasrnn.distributions of size {size}", "None"
            )
        if kind != "values":
            raise ArgumentError("forecast", forecast, f"None with kind={kind!r}")
    if sampling is not None and kind != "classes":
        raise ValueError(f"sampling={sampling!r}: expected None with kind={kind!r}.")


def check_attention(
    attention: Any, units: int | None, query: str, input_feeding: bool, stateful: bool
) -> None:
    """Raise ValueError unless the arguments that belong to an attention fit it."""
    if attention is None and (units, query, input_feeding) != (None, "output", True):
        raise ValueError(
            f"attention=None: attention_units={units!r}, query={query!r} and "
            f"input_feeding={input_feeding!r} require an attention; expected the defaults."
        )
    if attention is not None and stateful:
        raise ValueError("stateful=True: a memory belongs to one batch; expected attention=None.")
    if attention is not None and not isinstance(attention, Attention):
        raise ValueError(f"attention={attention!r}: expected an attention of kerasrnn.")


def check_copying(
    kind: str,
    attention: Any,
    return_attention: bool,
    copied: int | None,
    coverage_loss: float,
    sampling: Any,
) -> None:
    """Raise ValueError unless what depends on the attention of all steps fits the decoder."""
    if attention is None:
        for name, value, expected in (
            ("return_attention", return_attention, False),
            ("copied", copied, None),
            ("coverage_loss", coverage_loss, 0.0),
        ):
            if value:
                raise ValueError(
                    f"{name}={value!r}: the decoder has no attention; expected {expected!r}."
                )
    if copied is not None and kind != "classes":
        raise ValueError(f"copied={copied!r}: {kind} are not copied; expected None.")
    if copied is not None and sampling is not None:
        raise ValueError(
            f"sampling={sampling!r}: with copied={copied!r}, the symbols that the model draws may "
            "be outside its vocabulary; expected None."
        )


def check_softmax(softmax: Any, size: int, kind: str, tied: bool, copied: int | None) -> None:
    """Raise ValueError unless a large softmax fits the decoder."""
    if softmax is None:
        return
    if not hasattr(softmax, "logits") or getattr(softmax, "classes", None) != size:
        expected = f"a kerasrnn.AdaptiveSoftmax or SampledSoftmax of {size} classes"
        raise ArgumentError("softmax", softmax, expected, "None")
    if softmax.built:
        raise ValueError(f"softmax: {softmax.name} is built; expected a new one.")
    for name, value, expected in (("kind", kind, "classes"), ("tied", tied, False)):
        if value != expected:
            raise ValueError(f"{name}={value!r}: expected {expected!r} with a softmax.")
    if copied is not None:
        raise ValueError(f"copied={copied!r}: expected None with a softmax.")


def check_source_ids(name: str, copied: int | None, ids: Any, memory: Any) -> None:
    """Raise ValueError unless ids of the source are given if and only if they are expected."""
    if copied is None and ids is not None:
        raise ValueError(f"{name}: source_ids were given; expected none with copied=None.")
    if copied is None:
        return
    if ids is None:
        raise ValueError(
            f"{name}: copied={copied} expects source_ids, (batch, positions); received none."
        )
    shape, expected = tuple(ids.shape), tuple(memory.shape[:2])
    if not fits(shape, expected):
        raise ValueError(
            f"{name}: source_ids have the shape {shape}; expected (batch, positions) = {expected}, "
            "as the memory."
        )


def check_layers(layers: Sequence[RNN]) -> None:
    """Raise ValueError unless each layer can run a single step."""
    for layer in layers:
        if isinstance(layer, Bidirectional):
            raise ValueError(
                f"layers: {layer.name} reads the whole sequence; expected unidirectional layers."
            )
        check_recurrent("layers", layer)
        if not layer.runs_its_cell:
            raise ValueError(
                f"layers: {type(layer).__name__} overrides `call` or `inner_loop`, and so "
                "cannot run a single step; expected layers that run their cell."
            )
        if isinstance(layer.cell, keras.layers.StackedRNNCells):
            raise ValueError(
                f"layers: {layer.name} runs a list of cells; expected a layer for each of them."
            )
        if layer.stateful:
            raise ValueError(f"layers: {layer.name} is stateful; set it on the decoder instead.")


def check_initial_states(layers: Sequence[RNN], stateful: bool, context: str | None) -> None:
    """Raise ValueError if a layer learns an initial state that it would never start from, or has
    states that a context cannot be mapped to."""
    for layer in layers:
        shapes = flat_shapes(layer.cell.external_state_shapes)
        if context in ("state", "both") and any(None in shape for shape in shapes):
            raise ValueError(
                f"context={context!r}: the decoder maps it to the initial states, and the shapes "
                f"of those of {type(layer.cell).__name__} depend on its inputs; expected None, "
                "'first' or 'every', or another layer."
            )
        if layer.learn_initial_state and (stateful or context in ("state", "both")):
            option = "stateful=True" if stateful else f"context={context!r}"
            raise ValueError(
                f"layers: {layer.name} has learn_initial_state=True; expected False, since the "
                f"decoder sets its initial states with {option}."
            )


def check_memory(name: str, attention: Attention | None, shape: Any) -> None:
    """Raise ValueError unless a memory of this shape is given if and only if one is expected."""
    if attention is None and shape is not None:
        raise ValueError(f"{name}: a memory was given; expected none with attention=None.")
    if attention is not None and (shape is None or len(shape) != 3):
        received = "none" if shape is None else f"the shape {tuple(shape)}"
        raise ValueError(
            f"{name}: its attention expects a memory, (batch, positions, width); received "
            f"{received}."
        )


def check_context(name: str, context: str | None, shape: Any) -> None:
    """Raise ValueError unless a context of this shape is given if and only if one is expected."""
    if context is None and shape is not None:
        raise ValueError(f"{name}: a context was given; expected none with context=None.")
    if context is not None and (shape is None or len(shape) != 2):
        received = "none" if shape is None else f"the shape {tuple(shape)}"
        raise ValueError(
            f"{name}: context={context!r} expects one vector per row, (batch, width); received "
            f"{received}."
        )
