"""What decoders share: recurrent layers, a context, and the states that a step starts from."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn.base_layer import SequenceLayer
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.states import flat_shapes, map_shapes, size_of
from kerasrnn.decoding.decoder_arguments import check_context
from kerasrnn.layers.stacked import StackedRNN

Tensor = Any


class RecurrentDecoder(SequenceLayer):
    """The base class of decoders, with which a `kerasrnn.Generator` generates sequences.

    A subclass defines `kind`, `output_size`, `attention`, `forecast`, `prepare_memory`,
    `initial_states`, `step`, `prefill`, `weights_of_step` and `as_prepared`: see `Decoder`.

    Args:
        layers: see `Decoder`, with its attention, if it is in the time loop.
        context: None, "every", "state" or "both", and what a subclass adds.
        dropout: see `Decoder`.
        residual: see `Decoder`.
        return_attention: whether the layers also return the attention weights.
        seed: see `Decoder`.
    """

    def __init__(
        self,
        layers: Sequence[RNN],
        context: str | None,
        dropout: float,
        residual: bool | str,
        seed: int | None,
        return_attention: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.context = context
        self.dropout = dropout
        self.residual = residual
        self.seed = seed
        self.stack = StackedRNN(
            layers,
            residual=residual,
            dropout=dropout,
            return_sequences=True,
            return_state=True,
            return_attention=return_attention,
            seed=seed,
            dtype=self.dtype_policy,
            name="recurrent",
        )
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.into_state: keras.layers.Layer | None = None
        self.supports_masking = True

    def initial_states(
        self, context: Tensor | None = None, batch_size: Any = None, prepared: Any = None
    ) -> list[Tensor]:
        """s_0: the initial states for the first `step`.

        Args:
            context: c, `(batch, width)`, unless the decoder has none.
            batch_size: the number of rows, if there is no context to determine it.
            prepared: the result of `prepare_memory`, if the decoder reads a memory.

        Returns:
            The layers' states in one list, from the bottom up, each `(batch, units)`; with an
            attention, some `(batch, positions)`.

        Raises:
            ValueError: the context is missing or unexpected; the number of rows is unknown.
        """
        check_context(self.name, self.context, None if context is None else context.shape)
        if context is None and batch_size is None:
            raise ValueError("batch_size=None: expected the number of rows.")
        prepared = self._of_layers(prepared)
        if self.into_state is not None:
            return self.stack.extend_states(self._split(self.into_state(context)), prepared)
        return self.stack.get_initial_state(
            batch_size if context is None else ops.shape(context)[0], prepared
        )

    def _of_layers(self, prepared: Any) -> Any:
        """What the layers read of a prepared memory."""
        return prepared

    def _state_projection(self) -> keras.layers.Layer | None:
        """The layer from the context to the states, if they depend on it."""
        if self.context not in ("state", "both"):
            return None
        count = sum(map(size_of, flat_shapes(self.stack.external_state_shapes)))
        return self._dense(count, "into_state", activation="tanh")

    def _dense(self, units: int, name: str, **options: Any) -> keras.layers.Layer:
        return keras.layers.Dense(units, dtype=self.dtype_policy, name=name, **options)

    def _output_width(self) -> int:
        return width_of(self.stack.layers[-1])

    def _with_context(self, x: Tensor, context: Tensor | None) -> Tensor:
        """[x_t; c], at one step or at all of them, if c enters at every step."""
        if self.context not in ("every", "both"):
            return x
        context = ops.cast(context, x.dtype)
        if len(x.shape) == 3:
            context = ops.repeat(ops.expand_dims(context, 1), ops.shape(x)[1], axis=1)
        return ops.concatenate([x, context], axis=-1)

    def _split(self, states: Tensor) -> list[Any]:
        """Cut one vector per row into states."""
        shapes = self.stack.external_state_shapes
        sizes = [size_of(shape) for shape in flat_shapes(shapes)]
        cuts = np.cumsum(sizes)[:-1].tolist()
        parts = iter(ops.split(states, cuts, axis=-1) if cuts else [states])
        return map_shapes(lambda shape: ops.reshape(next(parts), (-1, *shape)), shapes)


def width_of(layer: RNN) -> int:
    """The output width of a layer that also returns its states."""
    return layer.compute_output_shape((None, None, 1))[0][-1]
