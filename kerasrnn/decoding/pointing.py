"""Pointer networks: a distribution over the positions of the source."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.attention import Attention
from kerasrnn.attention.normalization import along, wide_dtype
from kerasrnn.base_layer import boolean_mask, fits
from kerasrnn.cells.cell import weights_by_name
from kerasrnn.cells.rnn import RNN
from kerasrnn.decoding.decoder_arguments import (
    check_context,
    check_initial_states,
    check_layers,
    check_memory,
)
from kerasrnn.decoding.loop import taken
from kerasrnn.decoding.processors import IMPOSSIBLE
from kerasrnn.decoding.recurrent_decoder import RecurrentDecoder
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.layers.parts import as_layers
from kerasrnn.validation import ArgumentError, Rate, Seed

Tensor = Any

END = 1
"""The id of the end, which is also read at the first step. 0 is padding."""

FIRST = 2
"""The id of the first position of the source."""

ELEMENTS = "attention_elements"
"""The name of what is read, in a prepared memory."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class PointerDecoder(RecurrentDecoder):
    """Points at positions of a source, one after the other: the decoder of a pointer network.

        d_1 ... d_T = RNN(x_1 ... x_T; s_0)
        u_tj = v^T tanh(W_1 e_j + W_2 D(d_t))        j = 0 ... S
        p(y_t | y_1 ... y_{t-1}) = softmax(u_t)

    (Vinyals, Fortunato & Jaitly 2015, "Pointer networks", section 2.3). e_1 ... e_S is the memory,
    the outputs of an encoder for the S positions of its source. The input x_t is the element of the
    source that was pointed at in the step before. Two vectors are learned: e_0, which stands for
    the end, and the input of the first step. D is dropout. Other scores than these, which are those
    of `kerasrnn.BahdanauAttention`, are those of another `attention`.

    Pointers are ids: 0 is padding, 1 the end, and j + 2 the position j, counted from 0. Id 1 is
    also what the first step reads.

    A context c, one vector per row, enters as in a `kerasrnn.Decoder`: "state" makes it s_0 =
    tanh(c W_s + b_s), "every" appends it to every x_t, "both" does both; with None, s_0 = 0.

    `visits` restricts training and decoding alike. What is impossible has the probability 0, and
    the others sum to 1:

        "any"             every position that is not masked is possible
        "at_most_once"    no position that was pointed at is possible again
        "exactly_once"    besides, the end is possible once all positions were pointed at

    A call computes all steps of known pointers (teacher forcing). `initial_states` and `step`
    compute the steps one by one, for a `kerasrnn.Generator`, with `start` and `end` 1: by a
    sampler, or by a `Beam`.

    Args:
        layers: new unidirectional `kerasrnn.RNN` layers, from the bottom up. The decoder creates
            new layers from their configuration.
        attention: a new kerasrnn attention, whose scores are u: `BahdanauAttention`, or
            `LuongAttention`.
        visits: "any", "at_most_once" or "exactly_once".
        context: None, "every", "state" or "both".
        dropout: fraction to drop in training, in [0, 1): between layers, and of d_t.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        seed: integer that makes dropout reproducible.

    Call arguments:
        previous: the pointers before each step, ids `(batch, time)`: 1, y_1 ... y_{T-1}, then 0.
        context: c, `(batch, width)`, unless `context` is None.
        mask: boolean `(batch, time)`, True = use the step. Default: the pointers that are not 0.
        training: whether dropout is applied.
        memory: e_1 ... e_S, `(batch, positions, width)`.
        memory_mask: boolean `(batch, positions)`, True = may be pointed at. Default: the mask
            attached to the memory, if any.
        elements: what is read at the positions, `(batch, positions, features)`.

    Returns:
        The logits of y_1 ... y_T, float32 `(batch, time, positions + 2)` (float64 for float64):
        -1e30 for padding, for masked positions, and for what `visits` excludes.

    Masking: a masked position, wherever it is, has the probability 0; in a row without any other,
    only the end is possible. At a masked step the states are carried over. The mask of the steps is
    attached to the logits, so that losses exclude padding.

    Raises:
        ValueError: an argument is out of its range; the attention depends on the previous step, has
            a window, or another normalization than the softmax; a layer is bidirectional or
            stateful; a context, the memory or the elements are missing or unexpected. No graph can
            raise an error for a pointer beyond the source: the logits of its step are NaN.

    Example: without training.

        >>> import numpy as np, kerasrnn
        >>> from kerasrnn.decoding import Beam, PointerDecoder
        >>> decoder = PointerDecoder(
        ...     [kerasrnn.LSTM(8)], kerasrnn.BahdanauAttention(8), "exactly_once", context=None)
        >>> points = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32")
        >>> logits = decoder(np.array([[1, 4, 2, 3], [1, 2, 4, 3]]), memory=points, elements=points)
        >>> tuple(logits.shape)
        (2, 4, 5)
        >>> tours = kerasrnn.Generator(decoder, Beam(4), max_length=4, start=1, end=1)
        >>> found = np.asarray(tours(memory=points, elements=points))
        >>> np.sort(found, axis=1).tolist()
        [[1, 2, 3, 4], [1, 2, 3, 4]]
    """

    kind = "classes"
    forecast = None
    copied = None
    output_size = None
    """Not known: as many as the source has positions, and 2."""

    @validation.checked
    def __init__(
        self,
        layers: Sequence[RNN],
        attention: Attention,
        visits: Literal["any", "at_most_once", "exactly_once"] = "any",
        context: str | None = "state",
        dropout: Rate = 0.0,
        residual: bool | str = False,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        validation.one_of("context", context, (None, "every", "state", "both"))
        layers = as_layers(layers)
        check_layers(layers)
        check_initial_states(layers, False, context)
        _check_scores(attention)
        super().__init__(layers, context, dropout, residual, seed, **kwargs)
        self.attention, self.visits = attention, visits
        self.into_state = self._state_projection()

    def size_of(self, positions: Any) -> Any:
        """The number of ids, for this number of positions."""
        return positions + FIRST

    @property
    def state_shapes(self) -> list[Any]:
        """The shape of every state, without the batch axis; None: as long as the source."""
        visited = [] if self.visits == "any" else [(None,)]
        return [*self.stack.state_shapes, *visited, (None,)]

    def build(
        self,
        previous_shape: Any,
        context_shape: Any = None,
        memory_shape: Any = None,
        elements_shape: Any = None,
    ) -> None:
        check_context(self.name, self.context, context_shape)
        self._check_source(memory_shape, elements_shape)
        features, width = elements_shape[-1], memory_shape[-1]
        inputs = features + (context_shape[-1] if self.context in ("every", "both") else 0)
        self.stack.build((None, None, inputs))
        self.attention.build((None, self._output_width()), (None, None, width))
        if self.into_state is not None:
            self.into_state.build((None, context_shape[-1]))
        initializer = keras.initializers.RandomUniform(-0.1, 0.1, seed=self.seed)
        self.start = self.add_weight((features,), initializer, name="start")
        self.end = self.add_weight((width,), initializer.clone(), name="end")
        self.built = True

    def call(
        self,
        previous: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        training: bool | None = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        elements: Tensor | None = None,
    ) -> Tensor:
        check_context(self.name, self.context, None if context is None else context.shape)
        if mask is None:
            mask = self.compute_mask(previous, get_keras_mask(previous))
        mask = boolean_mask(f"{self.name}: mask", mask, previous.shape[:2])
        if memory_mask is None and memory is not None:
            memory_mask = get_keras_mask(memory)
        if context is not None:
            context = self.in_compute_dtype(context)
        prepared = self.prepare_memory(memory, memory_mask, elements)
        states = None
        if self.into_state is not None:
            states = self._split(self.into_state(context))
        x = self._with_context(_read(prepared, previous), context)
        d, *_ = self.stack(x, initial_state=states, mask=mask, training=training)
        visited = None
        if self.visits != "any":
            now = _pointed_at(previous, prepared) & ops.expand_dims(mask, -1)
            visited = ops.cumsum(ops.cast(now, "int32"), axis=1) > 0
        d = self.dropout_layer(d, training=training)
        return self._logits(d, visited, prepared, previous)[0]

    def prepare_memory(
        self, memory: Tensor | None, mask: Tensor | None = None, elements: Tensor | None = None
    ) -> list[dict[str, Tensor]]:
        """Compute once what the steps use of a source: a structure of tensors with a batch axis.

        Args:
            memory: `(batch, positions, width)`.
            mask: boolean `(batch, positions)`, True = may be pointed at.
            elements: `(batch, positions, features)`.

        Raises:
            ValueError: the memory or the elements are missing, or do not fit.
        """
        shapes = (None if x is None else tuple(x.shape) for x in (memory, elements))
        self._check_source(*shapes)
        memory, elements = (self.in_compute_dtype(x) for x in (memory, elements))
        if mask is None:
            mask = ops.ones_like(memory[..., 0], dtype="bool")
        else:
            mask = boolean_mask(
                f"{self.name}: memory_mask",
                mask,
                tuple(memory.shape[:2]),
                axes="(batch, positions)",
                used="it may be pointed at",
            )
        keys = _behind(self.end, memory)
        mask = ops.concatenate([ops.ones_like(mask[:, :1]), mask], axis=1)
        prepared = self.attention.prepare_memory(keys, None, mask)
        del prepared["attention_values"]
        return [{**prepared, ELEMENTS: _behind(self.start, elements)}]

    def as_prepared(self, named: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """A prepared memory from its tensors by name."""
        return [named]

    def initial_states(
        self, context: Tensor | None = None, batch_size: Any = None, prepared: Any = None
    ) -> list[Tensor]:
        states = super().initial_states(context, batch_size, prepared)
        zeros = ops.zeros_like(prepared[0]["attention_mask"][:, 1:])
        return [*states, *([] if self.visits == "any" else [zeros]), zeros]

    def step(
        self,
        previous: Tensor,
        states: Sequence[Tensor],
        context: Tensor | None = None,
        prepared: Any = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute one step of what a call computes in inference.

        Args:
            previous: y_{t-1}, ids `(batch,)`.
            states: s_{t-1}: from `initial_states` or the previous step.
            context: c, `(batch, width)`, unless the decoder has none.
            prepared: the result of `prepare_memory`.

        Returns:
            `(logits, states)`: the logits of y_t, `(batch, positions + 2)`, and s_t.
        """
        of_layers, visited, _ = self._parts(states)
        previous = ops.expand_dims(previous, 1)
        x = self._with_context(ops.squeeze(_read(prepared, previous), 1), context)
        d, of_layers = self.stack.step(x, of_layers, None)
        if visited is not None:
            now = ops.squeeze(_pointed_at(previous, prepared), 1)
            visited = ops.maximum(visited, ops.cast(now, visited.dtype))
        visits = None if visited is None else visited > 0
        logits, p = self._logits(d, visits, prepared, previous[:, 0])
        p = ops.cast(p, self.compute_dtype)
        return logits, [*of_layers, *([] if visited is None else [visited]), p]

    def weights_of_step(self, states: Sequence[Tensor]) -> Tensor:
        """The probabilities of the positions in the step that returned these states, `(batch,
        positions)`: without that of the end."""
        return states[-1]

    def prefill(
        self,
        previous: Tensor,
        states: Sequence[Tensor],
        context: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        elements: Tensor | None = None,
    ) -> list[Tensor]:
        """Compute the states after several steps at once, such as those of a prompt.

        Args:
            previous: ids `(batch, time)`.
            states: from `initial_states` or the previous step.
            context: c, `(batch, width)`, unless the decoder has none.
            mask: boolean `(batch, time)`, True = use the step. A fully masked row keeps its
                states.
            memory: `(batch, positions, width)`.
            memory_mask: boolean `(batch, positions)`, True = may be pointed at.
            elements: `(batch, positions, features)`.
        """
        prepared = self.prepare_memory(memory, memory_mask, elements)
        of_layers, visited, p = self._parts(states)
        x = self._with_context(_read(prepared, previous), context)
        _, *of_layers = self.stack(x, initial_state=of_layers, mask=mask)
        if visited is None:
            return [*of_layers, p]
        now = _pointed_at(previous, prepared)
        if mask is not None:
            now = now & ops.expand_dims(mask, -1)
        now = ops.cast(ops.any(now, axis=1), visited.dtype)
        return [*of_layers, ops.maximum(visited, now), p]

    def compute_output_spec(
        self,
        previous: Any,
        context: Any = None,
        mask: Any = None,
        training: Any = None,
        memory: Any = None,
        *_: Any,
        **__: Any,
    ) -> keras.KerasTensor:
        positions = memory.shape[1]
        size = None if positions is None else self.size_of(positions)
        return keras.KerasTensor((*previous.shape[:2], size), wide_dtype(self.compute_dtype))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The valid steps: those of `mask`, or those whose pointers are not padding."""
        inputs, mask = (x[0] if isinstance(x, (list, tuple)) else x for x in (inputs, mask))
        return ops.not_equal(inputs, 0) if mask is None else mask

    def get_config(self) -> dict[str, Any]:
        attention = keras.saving.serialize_keras_object(self.attention)
        attention.pop("build_config", None)
        return {
            **super().get_config(),
            "layers": self.stack.get_config()["layers"],
            "attention": attention,
            "visits": self.visits,
            "context": self.context,
            "dropout": self.dropout,
            "residual": self.residual,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PointerDecoder":
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "layers": layers, "attention": attention})

    def _of_layers(self, prepared: Any) -> None:
        return None

    def _parts(self, states: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None, Tensor]:
        """The states of the layers, the positions that were pointed at, and the last weights."""
        *of_layers, p = states
        return (of_layers, None, p) if self.visits == "any" else (of_layers[:-1], of_layers[-1], p)

    def _logits(
        self, d: Tensor, visited: Tensor | None, prepared: Any, previous: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The logits of one step or of all of them, and the probabilities of the positions."""
        (prepared,) = prepared
        weights = {**weights_by_name(self.attention), **prepared}
        d = self.in_compute_dtype(d)
        u = self.attention.scores(d, [], weights, self.attention.score_products(weights))
        u = ops.cast(u, wide_dtype(u.dtype))
        used = along(prepared["attention_mask"] > 0, u)
        possible, end = used[..., 1:], used[..., :1]
        if visited is not None:
            possible = possible & ~visited
        if self.visits == "exactly_once":
            end = ~ops.any(possible, axis=-1, keepdims=True)
        rank = len(u.shape)
        end = ops.broadcast_to(end, (*ops.shape(u)[:-1], 1)) if rank == 3 else end
        possible = ops.broadcast_to(possible, (*ops.shape(u)[:-1], ops.shape(possible)[-1]))
        possible = ops.concatenate([end, possible], axis=-1)
        u = ops.where(possible, u, IMPOSSIBLE)
        logits = ops.pad(u, [[0, 0]] * (rank - 1) + [[1, 0]], constant_values=IMPOSSIBLE)
        # Not what is read: the operators of ONNX may lose a NaN.
        beyond = previous >= self.size_of(ops.shape(prepared[ELEMENTS])[1] - 1)
        logits = ops.where(ops.expand_dims(beyond, -1), np.nan, logits)
        return logits, ops.softmax(u, axis=-1)[..., 1:]

    def _check_source(self, memory: Any, elements: Any) -> None:
        """Raise ValueError unless the shapes of the memory and of its elements fit."""
        check_memory(self.name, self.attention, memory)
        expected = (*memory[:2], None)
        if elements is None or len(elements) != 3 or not fits(elements, expected):
            received = "none" if elements is None else f"the shape {tuple(elements)}"
            raise ValueError(
                f"{self.name}: expected elements of the shape (batch, positions, features) = "
                f"{expected}, one for each position of the memory; received {received}."
            )
        if memory[1] == 0:
            raise ValueError(
                f"{self.name}: memory has the shape {tuple(memory)}; expected one position or more."
            )


def _check_scores(attention: Any) -> None:
    """Raise ValueError unless the scores of an attention depend on the query and the keys alone."""
    name, expected = "attention", "BahdanauAttention or LuongAttention"
    if not isinstance(attention, Attention):
        raise ArgumentError(name, attention, f"an attention of kerasrnn: {expected}")
    if attention.built:
        raise ValueError(f"attention: {attention.name} is built; expected a new one.")
    if attention.has_memory:
        raise ArgumentError(
            name, attention, f"one whose scores do not depend on the previous step: {expected}"
        )
    if getattr(attention, "window", None) is not None:
        raise ArgumentError(name, attention, "one without a window")
    if attention.normalization != "softmax":
        raise ArgumentError(name, attention, "one with normalization='softmax'")


def _behind(first: Tensor, x: Tensor) -> Tensor:
    """A vector in front of the positions of each row."""
    first = ops.cast(first, x.dtype)
    first = ops.broadcast_to(first, (ops.shape(x)[0], 1, first.shape[0]))
    return ops.concatenate([first, x], axis=1)


def _read(prepared: Any, previous: Tensor) -> Tensor:
    """The elements at pointers, `(batch, time)`, or the last one at pointers beyond the source."""
    elements = prepared[0][ELEMENTS]
    place = ops.cast(previous, "int32") - END
    return taken(elements, ops.clip(place, 0, ops.shape(elements)[1] - 1))


def _pointed_at(previous: Tensor, prepared: Any) -> Tensor:
    """Which positions are pointed at, boolean `(batch, time, positions)`."""
    positions = ops.shape(prepared[0][ELEMENTS])[1] - 1
    place = ops.arange(positions, dtype="int32") + FIRST
    return ops.expand_dims(ops.cast(previous, "int32"), -1) == place
