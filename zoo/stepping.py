"""From a model with a decoder to its encoder and its step: for runtimes without a decode loop."""

from typing import Any, NamedTuple

import keras
from keras import ops

import kerasrnn
from kerasrnn.zoo.model import Model

Tensor = Any

STATE, CONTEXT = "state_", "source_context"


class Parts(NamedTuple):
    """A model in two: what is computed once, and what is computed for each symbol."""

    encoder: Model | None
    """From the source to the first states and to what each step reads of the source; None where
    there is no source."""

    step: Model
    """From the symbol before, states and what the encoder found to a symbol and new states."""


def encoder_and_step(model: keras.Model) -> Parts:
    """A model's encoder, and its decoder's step, as two models that share its layers.

        s_0, m = encoder(x)
        p(y_t), s_t = step(y_{t-1}, s_{t-1}, m)

    For an environment that decodes by itself, symbol by symbol, as with onnxruntime: the exporters
    of `kerasrnn.export` take both. `zoo.generator` holds the whole loop instead.

    The encoder's outputs have the names of the step's inputs: first the states, `state_0`,
    `state_1`, ..., `(batch, units)`, or `(batch, positions)` of what an attention keeps; then what
    stays: `source_context`, `(batch, units)`, where the decoder reads it at every step, and of an
    attention `attention_keys` and `attention_values`, `(batch, positions, width)`, and
    `attention_mask`, `(batch, positions)`, ones and zeros. The step reads `previous` before them:
    ids `(batch,)` or frames `(batch, count)`; it puts out what the model does, of one step, under
    its name, the new states as `state_0_next`, ..., and of an attention `attention`, `(batch,
    positions)`. Without an encoder, the first states are zeros.

    They are made to be exported, and are not to be saved as Keras models themselves: save `model`.

    Args:
        model: of `zoo.next_step`, `one_to_many` or `encoder_decoder`.

    Raises:
        ValueError: the model holds no decoder, or several.

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
    given = source_of(model, decoder)
    frame = () if decoder.kind == "classes" else (decoder.size,)
    dtype = "int32" if decoder.kind == "classes" else None
    previous = keras.Input(frame, dtype=dtype, name="previous")
    found = _InitialStates(decoder, name="initial_states")(**(given or {"rows": previous}))
    encoder = None
    if given:
        outputs = [keras.layers.Identity(name=name)(x) for name, x in found.items()]
        encoder = Model(model.inputs[0], outputs, name=f"{model.name}_encoder")
    read = {name: keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in found.items()}
    results = _Step(decoder, name="decode")({"previous": previous, **read})
    (name,) = model.output_names
    results = {name: model.get_layer(name).activation(results.pop("logits")), **results}
    outputs = [keras.layers.Identity(name=name)(x) for name, x in results.items()]
    step = Model([previous, *read.values()], outputs, name=f"{model.name}_step")
    return Parts(encoder, step)


def decoder_of(model: keras.Model) -> kerasrnn.Decoder:
    """A model's only decoder.

    Raises:
        ValueError: it has none, or several.
    """
    decoders = [layer for layer in model.layers if isinstance(layer, kerasrnn.Decoder)]
    if len(decoders) != 1:
        raise ValueError(
            f"model={model.name!r}: holds {len(decoders)} decoders; expected one, as in the models "
            "of zoo.next_step, one_to_many and encoder_decoder."
        )
    return decoders[0]


def source_of(model: keras.Model, decoder: kerasrnn.Decoder) -> dict[str, Tensor]:
    """What a model's decoder is given of its source: `context`, `memory`, or nothing."""
    given = {}
    if decoder.context is not None:
        given["context"] = model.get_layer("context").output
    if decoder.attention is not None:
        given["memory"] = model.get_layer("encoder").output[0]
    return given


class _InitialStates(keras.layers.Layer):
    """The first states, and what each step reads of the source, by name."""

    def __init__(self, decoder: kerasrnn.Decoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = decoder
        self.supports_masking = True

    def call(
        self,
        context: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        prepared = self.decoder.prepare_memory(memory, memory_mask)
        batch = None if rows is None else ops.shape(rows)[0]
        states = self.decoder.initial_states(context, batch, prepared)
        found = {f"{STATE}{n}": state for n, state in enumerate(states)}
        if self.decoder.context in ("every", "both"):
            found[CONTEXT] = context
        for of_layer in prepared or ():
            found |= of_layer or {}
        # The memory itself is among them, and would carry its mask along.
        return {name: ops.copy(x) for name, x in found.items()}

    def compute_mask(self, *args: Any, **kwargs: Any) -> None:
        """None is passed on: `attention_mask` says it."""


class _Step(keras.layers.Layer):
    """One step of a decoder, of what `_InitialStates` has found."""

    def __init__(self, decoder: kerasrnn.Decoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = decoder
        self._convert_input_args = False

    def call(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        states = [x for name, x in inputs.items() if name.startswith(STATE)]
        prepared = None
        if self.decoder.attention is not None:
            of_layer = {k: x for k, x in inputs.items() if k.startswith("attention_")}
            layers = self.decoder.stack.layers
            attends = [getattr(layer.cell, "reads_memory", False) for layer in layers]
            prepared = [of_layer if reads else None for reads in attends]
        logits, states = self.decoder.step(
            inputs["previous"], states, inputs.get(CONTEXT), prepared
        )
        results = {"logits": logits}
        results |= {f"{STATE}{n}_next": state for n, state in enumerate(states)}
        weights = self.decoder.weights_of_step(states)
        return results if weights is None else {**results, "attention": weights}
