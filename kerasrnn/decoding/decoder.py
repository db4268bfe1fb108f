"""The decoder: a recurrent network that predicts the next symbol from the previous ones."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.attention import Attention
from kerasrnn.attention.normalization import wide_dtype
from kerasrnn.base_layer import boolean_mask, row_mask
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.states import map_shapes
from kerasrnn.decoding.attending_layer import with_attention, without_attention
from kerasrnn.decoding.copying import UNKNOWN, PointerGenerator
from kerasrnn.decoding.decoder_arguments import (
    check_attention,
    check_context,
    check_copying,
    check_initial_states,
    check_layers,
    check_memory,
    check_options,
    check_softmax,
    check_source_ids,
)
from kerasrnn.decoding.recurrent_decoder import RecurrentDecoder, width_of
from kerasrnn.decoding.scheduled_sampling import ScheduledSampling
from kerasrnn.distributions.forecast import Forecast, full_precision
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.layers.parts import as_layers
from kerasrnn.validation import NonNegativeNumber, PositiveInteger, Rate, Seed

Tensor = Any

SOURCE_IDS = "attention_source_ids"
"""The name of the ids of the source in a prepared memory."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Decoder(RecurrentDecoder):
    """Predicts each symbol of a sequence from the previous ones, and from a context.

        h_1 ... h_T = RNN(x_1 ... x_T; s_0),   logits_t = D(h_t) V + b

    x_t is computed from the previous symbol y_{t-1}: its embedding with "classes", y_{t-1} itself
    with "flags" (frames of zeros and ones) and "values", or `y_{t-1} W_e + b_e` with
    `embedding_units`. A context c, one vector per row, enters as specified by `context`:

        None       s_0 = 0                                      a language model
        "first"    x_0 = c W_c + b_c is read before x_1, and its output is discarded
                   (Vinyals et al. 2015, "Show and tell", equations 10 and 11)
        "every"    [x_t; c] instead of x_t
        "state"    s_0 = tanh(c W_s + b_s), for every state of every layer
                   (Cho et al. 2014, "Learning phrase representations", appendix A.1.2)
        "both"     "state" and "every"

    With an `attention`, h_t also depends on a memory, `(batch, positions, width)`: the outputs of
    an encoder for the positions of its source. `kerasrnn.AttentionCell` has the equations. If the
    attention's result enters the next step (`input_feeding`, or `query="state"`), the lowest layer
    attends, and the layers above read its output, as in Wu et al. (2016), "Google's neural machine
    translation system", section 3; otherwise the highest layer attends.

    With `copied`, the logits are those of a `kerasrnn.decoding.PointerGenerator`, which has the
    equations: a symbol is generated, or copied from the source. The ids from `size` to `size +
    copied - 1` belong to symbols of the source outside the vocabulary. The decoder reads id 1, the
    unknown symbol, in their place.

    With `coverage_loss`, a call adds a loss for attending to the same positions again (See, Liu &
    Manning 2017, equations 12 and 13), the mean over the valid steps of

        coverage_loss * sum_j min(alpha_tj, sum_{u < t} alpha_uj)

    D is dropout, which is also applied to embeddings. With `skip`, the output also reads the
    network's input: `[D(h_t); x_t]`, or `[D(h_t); x_t; c]`, instead of `D(h_t)` (Graves 2013,
    "Generating sequences with recurrent neural networks", figure 1; Cho et al. 2014, section 2.2).
    With `tied`, V is the transposed embedding matrix (Press & Wolf 2017, "Using the output
    embedding to improve language models"), after a product with P if their widths differ.

    A call computes all steps of a known sequence (teacher forcing) in the compiled time loop.
    `initial_states` and `step` compute the steps one by one, for generation.

    Args:
        size: number of classes, where 0 is padding; or width of a frame.
        layers: new unidirectional `kerasrnn.RNN` layers (any kerasrnn recurrent layers), from the
            bottom up. The decoder creates new layers from their configuration.
        kind: "classes", "flags" or "values".
        embedding_units: width of the embedding. Default: the units of the first layer with
            "classes", no embedding with the others.
        context: None, "first", "every", "state" or "both".
        dropout: fraction to drop in training, in [0, 1): of embeddings, between layers and of h_t.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        skip: whether the output reads the network's input in addition to its state.
        tied: whether V is the transposed embedding matrix; only with "classes".
        attention: a new kerasrnn attention, or None.
        attention_units: output width of the layer that attends. Default: its cell's units.
        query: "output", as in Luong, Pham & Manning (2015), or "state", as in Bahdanau, Cho &
            Bengio (2015).
        input_feeding: whether the attention's result enters the next step.
        return_attention: whether a call also returns the attention weights of every step.
        copied: the number of ids beyond the vocabulary, for source symbols that are copied; only
            with "classes" and an attention. None: nothing is copied.
        coverage_loss: weight of the coverage loss, 0 or more; above 0 only with an attention.
        sampling: a `kerasrnn.decoding.ScheduledSampling`: in training some of the symbols read are
            the model's own; only with "classes". None: all are the true ones.
        padding: only with "flags" and "values": a frame with this value in all entries is padding;
            None if every value may occur.
        stateful: whether a batch starts from the final states of the previous one, until
            `reset_state()`; the batch size must be known. Only without a context.
        seed: integer that makes dropout reproducible.
        forecast: only with "values": a forecast of `kerasrnn.distributions`, of the same size, such
            as `Normal(2, mean=..., std=...)`. The decoder reads frames in the units of the targets
            and standardizes them, and its logits are the numbers that `forecast.parameters` takes.
            None: it reads and predicts frames as they are.
        softmax: only with "classes": a new `kerasrnn.AdaptiveSoftmax` or `SampledSoftmax` of `size`
            classes, in the place of V, b and the softmax. The logits are then the logarithms of its
            probabilities, and losses find in them what they need instead of all classes. None: a
            dense layer.

    Call arguments:
        previous: y_0 ... y_{T-1}: ids `(batch, time)`, or frames `(batch, time, size)`.
        context: c, `(batch, width)`, unless `context` is None.
        mask: boolean `(batch, time)`, True = use the step. Default: the symbols that are not
            padding; or the mask attached to `previous`, if any.
        training: whether dropout is applied.
        memory: `(batch, positions, width)`, with an `attention`.
        memory_mask: boolean `(batch, positions)`, True = may be attended to. Default: the mask
            attached to the memory, if any.
        source_ids: with `copied`, the id of the symbol at each position of the memory, `(batch,
            positions)`: 0 if it cannot be copied.

    Returns:
        The logits of y_1 ... y_T, `(batch, time, size)`; with "values", the values themselves, or
        with a forecast `(batch, time, forecast.count)`; with `copied`, `(batch, time, size +
        copied)`, float32 also in half precision. With `return_attention`, `(logits, weights)`, the
        weights `(batch, time, positions)`.

    Masking: at a masked step the states are carried over. The mask is attached to the logits, so
    that losses exclude padding.

    Raises:
        ValueError: an argument is out of its range, or does not apply to this kind; a layer is
            bidirectional or stateful; a context or a memory is missing or unexpected; `stateful`
            with a batch of unknown size, or with an attention.

    Example:

        >>> import numpy as np, kerasrnn
        >>> decoder = kerasrnn.Decoder(7, [kerasrnn.LSTM(8)], context="state")
        >>> c = np.ones((2, 3), "float32")
        >>> logits = decoder(np.array([[1, 4, 2], [1, 5, 0]]), context=c)
        >>> states = decoder.initial_states(c)
        >>> first, states = decoder.step(np.array([1, 1]), states, c)
        >>> tuple(logits.shape), bool(np.allclose(first, logits[:, 0], atol=1e-6))
        ((2, 3, 7), True)
    """

    @validation.checked
    def __init__(
        self,
        size: PositiveInteger,
        layers: Sequence[RNN],
        kind: str = "classes",
        embedding_units: PositiveInteger | None = None,
        context: str | None = None,
        dropout: Rate = 0.0,
        residual: bool | str = False,
        skip: bool = False,
        tied: bool = False,
        attention: Attention | None = None,
        attention_units: PositiveInteger | None = None,
        query: str = "output",
        input_feeding: bool = True,
        return_attention: bool = False,
        copied: PositiveInteger | None = None,
        coverage_loss: NonNegativeNumber = 0.0,
        sampling: ScheduledSampling | None = None,
        padding: float | None = None,
        stateful: bool = False,
        seed: Seed | None = None,
        forecast: Forecast | None = None,
        softmax: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        check_options(size, kind, context, tied, sampling, padding, stateful, forecast)
        check_attention(attention, attention_units, query, input_feeding, stateful)
        check_softmax(softmax, size, kind, tied, copied)
        check_copying(kind, attention, return_attention, copied, coverage_loss, sampling)
        layers = as_layers(layers)
        check_layers(layers)
        check_initial_states(layers, stateful, context)
        if attention is not None:
            layers = with_attention(layers, attention, attention_units, query, input_feeding)
        # In half precision, frames would lose digits before they are standardized.
        super().__init__(
            layers,
            context,
            dropout,
            residual,
            seed,
            return_attention or copied is not None or coverage_loss > 0,
            autocast=forecast is None,
            **kwargs,
        )
        self.size = size
        self.kind = kind
        self.embedding_units = embedding_units
        self.skip = skip
        self.tied = tied
        self.attention = attention
        self.attention_units = attention_units
        self.query = query
        self.input_feeding = input_feeding
        self.return_attention = return_attention
        self.copied = copied
        self.coverage_loss = coverage_loss
        self.sampling = sampling
        self.padding = padding
        self.stateful = stateful
        self.forecast = forecast
        self.softmax = softmax
        self.embedding = self._embedding()
        self.into_state = self._state_projection()
        self.into_first = self.projection = self.readout = None
        if context == "first":
            self.into_first = self._dense(self._input_width(), "into_first")
        if not tied and softmax is None:
            self.readout = self._dense(size if forecast is None else forecast.count, "logits")
        elif tied and (skip or self._output_width() != self._input_width()):
            self.projection = self._dense(self._input_width(), "projection", use_bias=False)
        self.pointer: PointerGenerator | None = None
        if copied is not None:
            self.pointer = PointerGenerator(size, copied, dtype=self.dtype_policy, name="pointer")
        self.bias = self.sampling_steps = None
        if sampling is not None:
            self.sampling_seed = keras.random.SeedGenerator(seed)
        self.states: list[Any] = []

    @property
    def output_size(self) -> int:
        """The number of classes that may be generated, including copied ones; or the width."""
        return self.size + (self.copied or 0)

    @property
    def count(self) -> int:
        """The number of logits."""
        return self.output_size if self.forecast is None else self.forecast.count

    @property
    def state_shapes(self) -> list[Any]:
        """The shape of every state of every layer, without the batch axis; None: as long as the
        memory."""
        return self.stack.state_shapes

    def build(
        self,
        previous_shape: Any,
        context_shape: Any = None,
        memory_shape: Any = None,
        source_ids_shape: Any = None,
    ) -> None:
        check_context(self.name, self.context, context_shape)
        check_memory(self.name, self.attention, memory_shape)
        if self.kind != "classes" and previous_shape[-1] != self.size:
            raise ValueError(
                f"{self.name}: previous has the shape {tuple(previous_shape)}; expected (batch, "
                f"time, {self.size})."
            )
        if self.embedding is not None:
            self.embedding.build(previous_shape)
        width = self._input_width()
        if self.context in ("every", "both"):
            width += context_shape[-1]
        self.stack.build((None, None, width), memory_shape=memory_shape)
        output_width = self._output_width() + (width if self.skip else 0)
        if self.pointer is not None:
            shapes = [(None, n) for n in (memory_shape[-1], self._output_width(), width)]
            self.pointer.build((None, self.size), *shapes)
        for layer in (self.into_state, self.into_first):
            if layer is not None:
                layer.build((None, context_shape[-1]))
        for layer in (self.projection, self.readout, self.softmax):
            if layer is not None:
                layer.build((None, None, output_width))
        if self.tied:
            self.bias = self.add_weight(shape=(self.size,), name="bias", initializer="zeros")
        if self.sampling is not None:
            self.sampling_steps = self.add_weight(
                shape=(), name="sampling_steps", initializer="zeros", dtype="int32", trainable=False
            )
        if self.stateful:
            if previous_shape[0] is None:
                raise ValueError(
                    f"{self.name}: stateful=True: expected inputs whose batch size is known."
                )
            self.states = map_shapes(
                lambda shape: self.add_weight(
                    shape=(previous_shape[0], *shape),
                    name="state",
                    initializer="zeros",
                    trainable=False,
                ),
                self.state_shapes,
            )
        self.built = True

    def call(
        self,
        previous: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        training: bool | None = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        source_ids: Tensor | None = None,
    ) -> Any:
        check_context(self.name, self.context, None if context is None else context.shape)
        check_memory(self.name, self.attention, None if memory is None else memory.shape)
        check_source_ids(self.name, self.copied, source_ids, memory)
        if mask is None:
            mask = self.compute_mask(previous, get_keras_mask(previous))
            mask = mask[0] if self.return_attention else mask
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, previous.shape[:2])
        if context is not None:
            context = self.in_compute_dtype(context)
        rest = (context, mask, training, memory, memory_mask, source_ids)
        if training and self.sampling is not None:
            previous = self.sampling.mixed(
                previous,
                lambda read: self._run(read, *rest)[0],
                self.sampling_steps,
                self.sampling_seed,
            )
            self.sampling_steps.assign(self.sampling_steps + 1)
        logits, attention, states = self._run(previous, *rest)
        if self.coverage_loss:
            self.add_loss(self.coverage_loss * coverage(attention, mask))
        if self.stateful:
            variables, new = keras.tree.flatten(self.states), keras.tree.flatten(states)
            for variable, state in zip(variables, new, strict=True):
                variable.assign(ops.cast(state, variable.dtype))
        return (logits, attention) if self.return_attention else logits

    def _run(
        self,
        previous: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
        training: bool | None,
        memory: Tensor | None,
        memory_mask: Tensor | None,
        source_ids: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Compute the logits and the attention of all steps, and the final states."""
        x = self._inputs(previous)
        if self.embedding is not None:  # no dropout on frames: it would change their meaning
            x = self.dropout_layer(x, training=training)
        x = self._with_context(x, context)
        states, skipped = None, x
        if self.into_state is not None:
            states = self._split(self.into_state(context))
        if self.into_first is not None:
            x = ops.concatenate([ops.expand_dims(self.into_first(context), 1), x], axis=1)
            if mask is not None:
                first = ops.ones((ops.shape(mask)[0], 1), dtype="bool")
                mask = ops.concatenate([first, mask], axis=1)
        if self.stateful:
            states = keras.tree.map_structure(
                lambda state: ops.cast(ops.convert_to_tensor(state), x.dtype), list(self.states)
            )
        h, *states = self.stack(
            x,
            initial_state=states,
            mask=mask,
            training=training,
            **_memory_arguments(memory, memory_mask),
        )
        attention = None
        if self.stack.return_attention:
            attention, *states = states
        if self.into_first is not None:
            h = h[:, 1:]
            attention = None if attention is None else attention[:, 1:]
        h = self.dropout_layer(h, training=training)
        logits = self._logits(h, skipped, training)
        if self.pointer is not None:
            values = self.in_compute_dtype(memory)
            logits = self._with_copies(logits, h, skipped, attention, values, source_ids)
        return logits, attention, states

    def _with_copies(
        self, logits: Tensor, h: Tensor, x: Tensor, alpha: Tensor, values: Tensor, ids: Tensor
    ) -> Tensor:
        """The logits of generated and of copied symbols, of one step or of all of them."""
        steps = "t" if len(h.shape) == 3 else ""
        read = ops.einsum(f"b{steps}s,bsw->b{steps}w", ops.cast(alpha, values.dtype), values)
        return self.pointer(logits, read, h, x, alpha, ids)

    def prepare_memory(
        self,
        memory: Tensor | None,
        mask: Tensor | None = None,
        source_ids: Tensor | None = None,
    ) -> Any:
        """Compute once what `initial_states` and `step` use of a memory: a structure of tensors
        with a batch axis; None without an attention.

        Args:
            memory: `(batch, positions, width)`.
            mask: boolean `(batch, positions)`, True = may be attended to.
            source_ids: with `copied`, ids `(batch, positions)`.

        Raises:
            ValueError: the memory, or the ids, are missing or unexpected.
        """
        check_memory(self.name, self.attention, None if memory is None else memory.shape)
        check_source_ids(self.name, self.copied, source_ids, memory)
        if memory is None:
            return None
        prepared = self.stack.prepare_memory(memory, mask)
        if self.copied is not None:
            prepared.append({SOURCE_IDS: ops.cast(source_ids, "int32")})
        return prepared

    def as_prepared(self, named: dict[str, Tensor]) -> Any:
        """A prepared memory from its tensors by name, which are those of one layer."""
        if self.attention is None:
            return None
        attends = [getattr(layer.cell, "reads_memory", False) for layer in self.stack.layers]
        prepared = [named if reads else None for reads in attends]
        return prepared if self.copied is None else [*prepared, named]

    def _of_layers(self, prepared: Any) -> Any:
        return prepared if self.copied is None else prepared[:-1]

    def initial_states(
        self, context: Tensor | None = None, batch_size: Any = None, prepared: Any = None
    ) -> list[Tensor]:
        states = super().initial_states(context, batch_size, prepared)
        if self.into_first is not None:
            x = self.into_first(context)
            _, states = self.stack.step(x, states, self._of_layers(prepared))
        return states

    def step(
        self,
        previous: Tensor,
        states: Sequence[Tensor],
        context: Tensor | None = None,
        prepared: Any = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute one step of what a call computes in inference.

        Args:
            previous: y_{t-1}: ids `(batch,)`, or frames `(batch, size)`.
            states: s_{t-1}: from `initial_states` or the previous step.
            context: c, `(batch, width)`, unless the decoder has none.
            prepared: the result of `prepare_memory`, with an attention.

        Returns:
            `(logits, states)`: the logits of y_t, `(batch, size)`, and s_t.
        """
        x = self._with_context(self._inputs(previous), context)
        h, states = self.stack.step(x, states, self._of_layers(prepared))
        logits = self._logits(h, x)
        if self.pointer is not None:
            *of_layers, ids = prepared
            (values,) = (each["attention_values"] for each in of_layers if each is not None)
            alpha = self.weights_of_step(states)
            logits = self._with_copies(logits, h, x, alpha, values, ids[SOURCE_IDS])
        return logits, states

    def weights_of_step(self, states: Sequence[Tensor]) -> Tensor | None:
        """The attention weights of the step that returned these states, `(batch, positions)`.

        None without an attention.
        """
        return None if self.attention is None else self.stack.weights_of_step(states)

    def prefill(
        self,
        previous: Tensor,
        states: Sequence[Tensor],
        context: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> list[Tensor]:
        """Compute the states after several steps at once, such as those of a prompt.

        Args:
            previous: ids `(batch, time)`, or frames `(batch, time, size)`.
            states: from `initial_states` or the previous step.
            context: c, `(batch, width)`, unless the decoder has none.
            mask: boolean `(batch, time)`, True = use the step. A fully masked row keeps its
                states.
            memory: `(batch, positions, width)`, with an attention.
            memory_mask: boolean `(batch, positions)`, True = may be attended to.
        """
        x = self._with_context(self._inputs(previous), context)
        _, *states = self.stack(
            x, initial_state=list(states), mask=mask, **_memory_arguments(memory, memory_mask)
        )
        return states[1:] if self.stack.return_attention else states

    def compute_output_spec(
        self,
        previous: Any,
        context: Any = None,
        mask: Any = None,
        training: Any = None,
        memory: Any = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        shape = (*previous.shape[:2], self.count)
        wide = self.copied is not None or self.softmax is not None
        dtype = wide_dtype(self.compute_dtype) if wide else self.compute_dtype
        logits = keras.KerasTensor(shape, dtype)
        if not self.return_attention:
            return logits
        return logits, keras.KerasTensor((*shape[:2], memory.shape[1]), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The valid steps: those of `mask`, or those whose symbols are not padding."""
        inputs, mask = (x[0] if isinstance(x, (list, tuple)) else x for x in (inputs, mask))
        if mask is None and self.kind == "classes":
            mask = ops.not_equal(inputs, 0)
        elif mask is None and self.padding is not None:
            mask = ops.any(ops.not_equal(inputs, self.padding), axis=-1)
        return [mask, mask] if self.return_attention else mask

    def reset_state(self, rows: Any = None) -> None:
        """Reset the states of a stateful decoder to zero.

        Args:
            rows: the rows of the batch whose states are set: their indices, or a boolean mask
                `(batch,)`. Default: all rows.

        Raises:
            ValueError: `rows` are given for a decoder that stores no states, or are not in the
                batch.
        """
        states = keras.tree.flatten(self.states)
        if rows is None:
            for state in states:
                state.assign(ops.zeros(state.shape, dtype=state.dtype))
            return
        if not states:
            raise ValueError(
                f"{self.name}: rows={rows!r}: the decoder stores no states; expected a decoder "
                "with stateful=True that is built."
            )
        chosen = row_mask(f"{self.name}: rows", rows, states[0].shape[0])
        for state in states:
            of_row = ops.reshape(chosen, (-1, *(1 for _ in state.shape[1:])))
            state.assign(ops.where(of_row, ops.zeros_like(state.value), state.value))

    # The states depend on the batch and its size: they are not weights, and are not saved.

    @property
    def weights(self) -> list[Any]:
        state_ids = {id(state) for state in keras.tree.flatten(self.states)}
        return [weight for weight in super().weights if id(weight) not in state_ids]

    def save_own_variables(self, store: Any) -> None:
        for name in ("bias", "sampling_steps"):
            if getattr(self, name) is not None:
                store[name] = getattr(self, name)

    def load_own_variables(self, store: Any) -> None:
        for name in ("bias", "sampling_steps"):
            if getattr(self, name) is not None:
                getattr(self, name).assign(store[name])

    def get_config(self) -> dict[str, Any]:
        attention, layers = None, self.stack.get_config()["layers"]
        softmax = None
        if self.softmax is not None:
            softmax = keras.saving.serialize_keras_object(self.softmax)
            softmax.pop("build_config", None)
        if self.attention is not None:
            attention = keras.saving.serialize_keras_object(self.attention)
            attention.pop("build_config", None)
            layers = without_attention(layers, self.input_feeding)
        return {
            **super().get_config(),
            "size": self.size,
            "layers": layers,
            "kind": self.kind,
            "embedding_units": self.embedding_units,
            "context": self.context,
            "dropout": self.dropout,
            "residual": self.residual,
            "skip": self.skip,
            "tied": self.tied,
            "attention": attention,
            "attention_units": self.attention_units,
            "query": self.query,
            "input_feeding": self.input_feeding,
            "return_attention": self.return_attention,
            "copied": self.copied,
            "coverage_loss": self.coverage_loss,
            "sampling": keras.saving.serialize_keras_object(self.sampling),
            "padding": self.padding,
            "stateful": self.stateful,
            "seed": self.seed,
            "forecast": keras.saving.serialize_keras_object(self.forecast),
            "softmax": softmax,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Decoder":
        parts = {
            "layers": [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]],
        }
        for name in ("attention", "sampling", "forecast", "softmax"):
            part = config.get(name)
            parts[name] = None if part is None else keras.saving.deserialize_keras_object(part)
        return cls(**{**config, **parts})

    def _embedding(self) -> keras.layers.Layer | None:
        if self.kind == "classes":
            units = self.embedding_units or width_of(self.stack.layers[0])
            return keras.layers.Embedding(
                self.size, units, dtype=self.dtype_policy, name="embedding"
            )
        if self.embedding_units is not None:
            return self._dense(self.embedding_units, "embedding")
        return None

    def _input_width(self) -> int:
        """The width of x_t, without the context."""
        if self.embedding is None:
            return self.size
        return self.embedding.output_dim if self.kind == "classes" else self.embedding.units

    def _inputs(self, previous: Tensor) -> Tensor:
        if self.copied is not None:
            previous = ops.where(previous < self.size, previous, UNKNOWN)
        if self.kind == "classes":
            return self.embedding(previous)
        if self.forecast is not None:
            previous = self.forecast.standardized(full_precision(previous))
        previous = ops.cast(previous, self.compute_dtype)
        return previous if self.embedding is None else self.embedding(previous)

    def _logits(self, h: Tensor, x: Tensor, training: bool | None = False) -> Tensor:
        if self.skip:
            h = ops.concatenate([h, x], axis=-1)
        if self.softmax is not None:
            return self.softmax.logits(h, training)
        if not self.tied:
            return self.readout(h)
        if self.projection is not None:
            h = self.projection(h)
        table = ops.cast(self.embedding.embeddings, h.dtype)
        return ops.matmul(h, ops.transpose(table)) + ops.cast(self.bias, h.dtype)


def coverage(attention: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the valid steps of what they attend to again: see `Decoder`."""
    wide = wide_dtype(attention.dtype)
    alpha = ops.cast(attention, wide)
    if mask is None:
        mask = ops.ones_like(alpha[..., 0])
    used = ops.cast(mask, wide)
    alpha = alpha * ops.expand_dims(used, -1)
    again = ops.minimum(alpha, ops.cumsum(alpha, axis=1) - alpha)
    return ops.divide_no_nan(ops.sum(again), ops.sum(used))


def _memory_arguments(memory: Tensor | None, mask: Tensor | None) -> dict[str, Tensor]:
    """The memory as arguments of a call: none for a layer without attention."""
    return {} if memory is None else {"memory": memory, "memory_mask": mask}
