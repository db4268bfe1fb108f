"""Split a model into its encoder and its decoder step, for runtimes without a decoding loop."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kerasrnn.decoding.pointing import PointerDecoder
from kerasrnn.decoding.recurrent_decoder import RecurrentDecoder
from kerasrnn.zoo.model import Model

Tensor = Any

STATE, CONTEXT = "state_", "source_context"


class Parts(NamedTuple):
    """A model in two parts: the encoder runs once, the step runs for each symbol."""

    encoder: Model | None
    """Maps the source to the initial states and to the source features that each step reads; None
    if there is no source."""

    step: Model
    """Maps the previous symbol, the states and the encoder's outputs to a symbol and new states."""


def encoder_and_step(model: keras.Model) -> Parts:
    """Return a model's encoder and its decoder step as two models that share its layers.

        s_0, m = encoder(x)
        p(y_t), s_t = step(y_{t-1}, s_{t-1}, m)

    They serve environments that run the decoding loop themselves, for example with onnxruntime; the
    exporters of `kerasrnn.export` accept both. `zoo.generator` contains the entire loop instead.

    The encoder's outputs have the names of the step's inputs: first the states, `state_0`,
    `state_1`, ..., `(batch, units)`, or `(batch, positions)` for the state of an attention; then
    the constants: `source_context`, `(batch, units)`, if the decoder reads it at every step, and
    with attention `attention_keys` and `attention_values`, `(batch, positions, width)`, and
    `attention_mask`, `(batch, positions)`, ones and zeros, and `attention_source_ids` if symbols
    are copied, and `attention_elements` of a pointer network. The step's first input is `previous`:
    ids `(batch,)` or frames `(batch, count)`. Its outputs are the model's output for one step,
    under the same name, the new states as `state_0_next`, ..., and with attention `attention`,
    `(batch, positions)`. Without an encoder, the initial states are zeros.

    They are intended for export and should not be saved as Keras models: save `model` instead.

    Args:
        model: a model of `zoo.next_step`, `one_to_many`, `encoder_decoder` or `pointer_network`.

    Raises:
        ValueError: the model has no decoder, or several.

    Example:

        >>> from keras import ops
        >>> from kerasrnn import zoo
        >>> model = zoo.encoder_decoder(
        ...     zoo.Tokens(30, 8), zoo.Classes(42), cell="gru", units=8, attention="bahdanau")
        >>> encoder, step = zoo.encoder_and_step(model)
        >>> found = encoder(ops.array([[4, 7, 9]]))
        >>> result = step([ops.array([40]), *found])
        >>> tuple(dict(zip(step.output_names, result, strict=True))["probabilities"].shape)
        (1, 42)
    """
    decoder = decoder_of(model)
    source = source_of(model, decoder)
    frame = () if decoder.kind == "classes" else (decoder.size,)
    dtype = "int32" if decoder.kind == "classes" else None
    previous = keras.Input(frame, dtype=dtype, name="previous")
    first = _InitialStates(decoder, name="initial_states")
    found = first(**(source or {"rows": previous}))
    initial = dict(zip(first.names, found, strict=True))
    encoder = None
    if source:
        outputs = [named(name, x) for name, x in initial.items()]
        sources = source_inputs(model)
        inputs = sources if len(sources) > 1 else sources[0]
        encoder = Model(inputs, outputs, name=f"{model.name}_encoder")
    step_inputs = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in initial.items()
    }
    decode = _Step(decoder, name="decode")
    found = decode({"previous": previous, **step_inputs})
    results = dict(zip(decode.names, found, strict=True))
    name = model.output_names[0]
    head = model.get_layer(name)
    # Without weights, and with another name than that of the output.
    activation = type(head).from_config({**head.get_config(), "name": "of_step"})
    results = {name: activation(results.pop("logits")), **results}
    outputs = [named(name, x) for name, x in results.items()]
    step = Model([previous, *step_inputs.values()], outputs, name=f"{model.name}_step")
    return Parts(encoder, step)


def named(name: str, x: Tensor) -> Tensor:
    """An output of a model under a name, in its own dtype, also with mixed precision."""
    dtype = x.dtype if "float" in x.dtype else None
    return keras.layers.Identity(dtype=dtype, name=name)(x)


def decoder_of(model: keras.Model) -> RecurrentDecoder:
    """Return a model's only decoder.

    Raises:
        ValueError: the model has none, or several.
    """
    decoders = [layer for layer in model.layers if isinstance(layer, RecurrentDecoder)]
    if len(decoders) != 1:
        raise ValueError(
            f"model={model.name!r}: has {len(decoders)} decoders; expected one, as in the models "
            "of zoo.next_step, one_to_many, encoder_decoder and pointer_network."
        )
    return decoders[0]


def source_of(model: keras.Model, decoder: RecurrentDecoder) -> dict[str, Tensor]:
    """What a model's decoder reads of the source: `context`, `memory`, `source_ids`, `elements`."""
    features = {}
    if decoder.context is not None:
        features["context"] = model.get_layer("context").output
    if decoder.attention is not None:
        features["memory"] = model.get_layer("encoder").output[0]
    if decoder.copied is not None:
        features["source_ids"] = model.inputs[-2]
    if isinstance(decoder, PointerDecoder):
        features["elements"] = model.get_layer("elements").output
    return features


def source_inputs(model: keras.Model) -> list[Tensor]:
    """The inputs of a model with a decoder, except that of the previous symbols, the last one."""
    return list(model.inputs[:-1])


# These layers return lists: JAX sorts the keys of a dict, and "state_10" before "state_2".


class _InitialStates(keras.layers.Layer):
    """The initial states, and the source features that each step reads."""

    def __init__(self, decoder: RecurrentDecoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = decoder
        self.supports_masking = True
        self.names: list[str] = []
        """Names of the outputs, once the layer has been called."""

    def call(
        self,
        context: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        source_ids: Tensor | None = None,
        elements: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> list[Tensor]:
        read = source_ids if elements is None else elements
        prepared = self.decoder.prepare_memory(memory, memory_mask, read)
        batch = None if rows is None else ops.shape(rows)[0]
        states = self.decoder.initial_states(context, batch, prepared)
        outputs = {f"{STATE}{n}": state for n, state in enumerate(states)}
        if self.decoder.context in ("every", "both"):
            outputs[CONTEXT] = context
        for of_layer in prepared or ():
            outputs |= of_layer or {}
        self.names = list(outputs)
        # The memory itself is among them, and would pass on its mask.
        return [ops.copy(x) for x in outputs.values()]

    def compute_mask(self, *args: Any, **kwargs: Any) -> None:
        """No mask is passed on: `attention_mask` replaces it."""


class _Step(keras.layers.Layer):
    """One step of a decoder, given the outputs of `_InitialStates`."""

    def __init__(self, decoder: RecurrentDecoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = decoder
        self._convert_input_args = False
        self.names: list[str] = []
        """Names of the outputs, once the layer has been called."""

    def call(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        count = sum(name.startswith(STATE) for name in inputs)
        states = [inputs[f"{STATE}{n}"] for n in range(count)]
        prepared = None
        if self.decoder.attention is not None:
            named = {k: x for k, x in inputs.items() if k.startswith("attention_")}
            prepared = self.decoder.as_prepared(named)
        logits, states = self.decoder.step(
            inputs["previous"], states, inputs.get(CONTEXT), prepared
        )
        results = {"logits": logits}
        results |= {f"{STATE}{n}_next": state for n, state in enumerate(states)}
        weights = self.decoder.weights_of_step(states)
        if weights is not None:
            results["attention"] = weights
        self.names = list(results)
        return list(results.values())
