"""Ensembles: several decoders that generate one sequence together."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.decoding.decoder import Decoder

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class Ensemble(BaseLayer):
    """Decoders of the same symbols, as one decoder for a `kerasrnn.Generator`.

        p(y_t) = 1/K sum_k p_k(y_t)                 average="probabilities"
        p(y_t) ~ (prod_k p_k(y_t))^(1/K)            average="log_probabilities"

    where p_k is the distribution of the k-th decoder. All of them read the same symbols, and each
    has its own states, and its own context and memory, if any: their features, one after the other,
    are the features of the ensemble's. `zoo.generator` and `zoo.Translator` create it from several
    models.

    Args:
        decoders: built `kerasrnn.Decoder`s of classes, or their configurations in a saved model.
        contexts: the width of the context of each; None: it has none.
        memories: the width of the memory of each; None: it has none.
        average: "probabilities" or "log_probabilities".

    Raises:
        ValueError: the decoders have different numbers of classes, or are not of classes; the
            widths are not as many.

    Example:

        >>> import numpy as np, kerasrnn
        >>> decoders = [kerasrnn.Decoder(7, [kerasrnn.GRU(4)]) for _ in range(3)]
        >>> for decoder in decoders:
        ...     decoder.build((None, None))
        >>> ensemble = kerasrnn.decoding.Ensemble(decoders)
        >>> generator = kerasrnn.Generator(ensemble, max_length=5, start=1, end=2)
        >>> tuple(generator(max_lengths=np.array([5, 3])).shape)
        (2, 5)
    """

    kind = "classes"
    forecast = None

    @validation.checked
    def __init__(
        self,
        decoders: Sequence[Decoder],
        contexts: Sequence[int | None] | None = None,
        memories: Sequence[int | None] | None = None,
        average: Literal["probabilities", "log_probabilities"] = "probabilities",
        **kwargs: Any,
    ) -> None:
        decoders = validation.sequence("decoders", decoders)
        if not decoders:
            raise ValueError("decoders=[]: expected at least one.")
        for n, decoder in enumerate(decoders):
            if not isinstance(decoder, Decoder) or decoder.kind != "classes":
                raise validation.ArgumentError(
                    f"decoders[{n}]", decoder, "a kerasrnn.Decoder of classes"
                )
            sizes = [(each.size, each.copied) for each in (decoders[0], decoder)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"decoders[{n}] has (size, copied) = {sizes[1]}, and the first {sizes[0]}; "
                    "expected decoders of the same symbols."
                )
        none = [None] * len(decoders)
        contexts, memories = (none if x is None else list(x) for x in (contexts, memories))
        for name, widths in (("contexts", contexts), ("memories", memories)):
            if len(widths) != len(decoders):
                raise ValueError(
                    f"{name}={widths!r}: expected a width or None for each of the "
                    f"{len(decoders)} decoders."
                )
        super().__init__(**kwargs)
        self.decoders, self.average = decoders, average
        self.contexts, self.memories = contexts, memories
        self.size, self.copied = decoders[0].size, decoders[0].copied
        self.output_size = decoders[0].output_size

    @property
    def context(self) -> Any:
        """None if no decoder has a context."""
        return next((each.context for each in self.decoders if each.context), None)

    @property
    def attention(self) -> Any:
        """An attention, or None if no decoder has one."""
        return next((each.attention for each in self.decoders if each.attention), None)

    def build(
        self, previous_shape: Any, context_shape: Any = None, memory_shape: Any = None
    ) -> None:
        for decoder, context, memory in zip(
            self.decoders, self.contexts, self.memories, strict=True
        ):
            if not decoder.built:
                shapes = (
                    None if context is None else (None, context),
                    None if memory is None else (None, None, memory),
                )
                decoder.build(previous_shape, *shapes)
        self.built = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if mask is None else mask

    def prepare_memory(
        self, memory: Tensor | None, mask: Tensor | None = None, source_ids: Tensor | None = None
    ) -> list[Any]:
        """See `Decoder.prepare_memory`."""
        parts = _parts(memory, self.memories)
        return [
            decoder.prepare_memory(part, mask, source_ids)
            for decoder, part in zip(self.decoders, parts, strict=True)
        ]

    def initial_states(
        self, context: Tensor | None = None, batch_size: Any = None, prepared: Any = None
    ) -> list[Any]:
        """See `Decoder.initial_states`: a list for each decoder."""
        return [
            decoder.initial_states(part, batch_size, of_decoder)
            for decoder, part, of_decoder in zip(
                self.decoders, _parts(context, self.contexts), self._each(prepared), strict=True
            )
        ]

    def step(
        self, previous: Tensor, states: Any, context: Tensor | None = None, prepared: Any = None
    ) -> tuple[Tensor, list[Any]]:
        """See `Decoder.step`. The logits are logarithms of the averages."""
        parts = zip(
            self.decoders,
            states,
            _parts(context, self.contexts),
            self._each(prepared),
            strict=True,
        )
        log_p, after = [], []
        for decoder, of_decoder, part, memory in parts:
            logits, new = decoder.step(previous, of_decoder, part, memory)
            log_p.append(ops.log_softmax(ops.cast(logits, "float32"), axis=-1))
            after.append(new)
        log_p = ops.stack(log_p)
        if self.average == "log_probabilities":
            return ops.mean(log_p, axis=0), after
        return ops.logsumexp(log_p, axis=0) - np.float32(np.log(len(after))), after

    def weights_of_step(self, states: Any) -> Tensor | None:
        """The mean of the attention weights of the decoders with attention."""
        weights = [
            ops.cast(decoder.weights_of_step(of_decoder), "float32")
            for decoder, of_decoder in zip(self.decoders, states, strict=True)
            if decoder.attention is not None
        ]
        return ops.mean(ops.stack(weights), axis=0) if weights else None

    def prefill(
        self,
        previous: Tensor,
        states: Any,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> list[Any]:
        """See `Decoder.prefill`."""
        parts = zip(
            self.decoders,
            states,
            _parts(context, self.contexts),
            _parts(memory, self.memories),
            strict=True,
        )
        return [
            decoder.prefill(
                previous,
                of_decoder,
                part,
                mask,
                of_memory,
                None if of_memory is None else memory_mask,
            )
            for decoder, of_decoder, part, of_memory in parts
        ]

    def _each(self, prepared: Any) -> list[Any]:
        return [None] * len(self.decoders) if prepared is None else prepared

    def get_config(self) -> dict[str, Any]:
        decoders = keras.saving.serialize_keras_object(self.decoders)
        for decoder in decoders:
            decoder.pop("build_config", None)
        return {
            **super().get_config(),
            "decoders": decoders,
            "contexts": self.contexts,
            "memories": self.memories,
            "average": self.average,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Ensemble":
        decoders = [keras.saving.deserialize_keras_object(each) for each in config["decoders"]]
        return cls(**{**config, "decoders": decoders})


def _parts(features: Tensor | None, widths: Sequence[int | None]) -> list[Tensor | None]:
    """The features of each decoder, of these widths; None where there are none."""
    if features is None:
        return [None] * len(widths)
    parts, start = [], 0
    for width in widths:
        end = start + (width or 0)
        parts.append(None if width is None else features[..., start:end])
        start = end
    return parts
