"""The generator: a decoder, a sampler and the decode loop as one layer."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import keras
from keras import ops

from kerasrnn.decoding import loop
from kerasrnn.decoding.decoder import Decoder
from kerasrnn.decoding.samplers import Greedy, Identity, Sampler, Threshold

Tensor = Any

DEFAULTS: dict[str, type[Sampler]] = {
    "classes": Greedy,
    "flags": Threshold,
    "values": Identity,
}
"""The sampler of each kind that needs no chance."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Generator(keras.layers.Layer):
    """Generates sequences with a decoder, symbol by symbol: the whole of it is one graph.

        s_0 = begin(c)
        logits_t, s_t = step(y_{t-1}, s_{t-1}; c)
        y_t = sampler(logits_t)

    until a row has said `end` or is as long as it may be. The first step reads `start`; or, with a
    prompt, the prompt's last symbol, when `start` and the prompt's others have been read before, in
    the time loop's own compiled way.

    Id 0, which is padding, is never generated. Random numbers are drawn before the loop, which is
    the same for every sampler. Each call goes on from where the last one left the seed; the same
    seed draws the same on the same backend, with or without XLA, but XLA has numbers of its own.

    Args:
        decoder: a `kerasrnn.Decoder`; it may belong to another model, which is then shared.
        sampler: one of `kerasrnn.decoding`: `Greedy` or `Sample` for classes, `Threshold` or
            `Bernoulli` for flags, `Identity` for values. Default: the first named of its kind.
        max_length: the largest number of symbols that a row may get.
        start: the id, or the entries of the frame (one number for all), that comes before the
            first symbol; None: prompts begin with it themselves.
        end: the id that ends a row; None, or with flags and values: only its length does.
        seed: integer: makes what is drawn repeatable.
        return_lengths: whether to return the lengths too.
        return_log_probabilities: whether to return the log-probabilities too; not of values, which
            have none.

    Call arguments:
        context: c, `(batch, width)`, unless the decoder has none.
        prompt: what the sequence begins with, right-padded: ids `(batch, time)`, or frames
            `(batch, time, size)`. Without `start`, every row needs one symbol at least.
        prompt_lengths: `(batch,)`: the number of symbols of each prompt. Default: those that are no
            padding, as the decoder knows it.
        max_lengths: `(batch,)`: at most so many symbols for each row.

    Returns:
        What follows the prompt: ids `(batch, max_length)`, int32, the one that ends a row included
        and 0 behind it, or frames `(batch, max_length, size)`. Then, if asked for, the lengths
        `(batch,)`, int32, and the log-probabilities of each symbol, `(batch, max_length)`, which
        are the model's own, whatever the sampler made of its distribution, and 0 behind the end.

    Masking: of the prompt alone, by its padding; none is passed on.

    Raises:
        ValueError: an argument is out of its range or of another kind than the decoder; a context
            or a prompt is missing or does not fit; nothing tells the number of rows.

    Example:

        >>> import numpy as np, kerasrnn
        >>> decoder = kerasrnn.Decoder(7, [kerasrnn.GRU(8)], context="first")
        >>> generator = kerasrnn.Generator(decoder, max_length=5, start=1, end=2)
        >>> ids = generator(np.ones((3, 4), "float32"))
        >>> tuple(ids.shape), bool(np.all(np.asarray(ids)[:, 0] > 0))
        ((3, 5), True)
    """

    def __init__(
        self,
        decoder: Decoder,
        sampler: Sampler | None = None,
        max_length: int = 100,
        start: int | float | Sequence[float] | None = None,
        end: int | None = None,
        seed: int | None = None,
        return_lengths: bool = False,
        return_log_probabilities: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(decoder, Decoder):
            raise ValueError(f"decoder={decoder!r}: expected a kerasrnn.Decoder.")
        sampler = DEFAULTS[decoder.kind]() if sampler is None else sampler
        if getattr(sampler, "kind", None) != decoder.kind:
            raise ValueError(
                f"sampler={sampler!r}: expected one of {decoder.kind}, which the decoder foresees."
            )
        if not isinstance(max_length, Integral) or isinstance(max_length, bool) or max_length < 1:
            raise ValueError(f"max_length={max_length!r}: expected a positive integer.")
        if end is not None and decoder.kind != "classes":
            raise ValueError(f"end={end!r}: {decoder.kind} have no end; expected None.")
        for name, symbol in (("start", start), ("end", end)):
            if symbol is not None and decoder.kind == "classes":
                _check_id(name, symbol, decoder.size)
        if return_log_probabilities and decoder.kind == "values":
            raise ValueError("return_log_probabilities=True: values have none; expected False.")
        super().__init__(**kwargs)
        if start is not None and decoder.kind != "classes":
            start = [start] * decoder.size if isinstance(start, Real) else start
            start = [float(entry) for entry in start]
            if len(start) != decoder.size:
                raise ValueError(
                    f"start has {len(start)} entries; expected one, or {decoder.size}, the width "
                    "of a frame."
                )
        elif start is not None:
            start = int(start)
        self.decoder = decoder
        self.sampler = sampler
        self.max_length = int(max_length)
        self.start = start
        self.end = None if end is None else int(end)
        self.seed = seed
        self.return_lengths = return_lengths
        self.return_log_probabilities = return_log_probabilities
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(
        self,
        context_shape: Any = None,
        prompt_shape: Any = None,
        prompt_lengths_shape: Any = None,
        max_lengths_shape: Any = None,
    ) -> None:
        if not self.decoder.built:
            frame = () if self.decoder.kind == "classes" else (self.decoder.size,)
            self.decoder.build((None, None, *frame), context_shape)
        self.built = True

    def call(
        self,
        context: Tensor | None = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        max_lengths: Tensor | None = None,
    ) -> Any:
        batch = self._rows(context, prompt, max_lengths)
        states = self.decoder.begin(context, batch)
        previous, states = self._read_prompt(batch, states, context, prompt, prompt_lengths)
        longest = ops.full((batch,), self.max_length, dtype="int32")
        if max_lengths is not None:
            longest = ops.minimum(longest, ops.cast(max_lengths, "int32"))
        noise, shape = None, self.sampler.noise_shape(self.decoder.size)
        if shape is not None:
            noise = keras.random.uniform(
                (self.max_length, batch, *shape), dtype="float32", seed=self.seed_generator
            )
        policy = loop.Sampling(
            self.sampler,
            self.decoder.size,
            longest,
            noise,
            self.max_length,
            self.end,
            self.compute_dtype,
        )

        def step(previous: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            return self.decoder.step(previous, states, context)

        results = loop.decode(step, policy, previous, states, self.max_length)
        return self._asked(results.symbols, results.lengths, results.log_probabilities)

    def compute_output_spec(
        self,
        context: Any = None,
        prompt: Any = None,
        prompt_lengths: Any = None,
        max_lengths: Any = None,
    ) -> Any:
        batch = self._rows(context, prompt, max_lengths, symbolic=True)
        classes = self.decoder.kind == "classes"
        shape = (batch, self.max_length) if classes else (batch, self.max_length, self.decoder.size)
        return self._asked(
            keras.KerasTensor(shape, "int32" if classes else self.compute_dtype),
            keras.KerasTensor((batch,), "int32"),
            keras.KerasTensor((batch, self.max_length), "float32"),
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        decoder = keras.saving.serialize_keras_object(self.decoder)
        decoder.pop("build_config", None)
        return {
            **super().get_config(),
            "decoder": decoder,
            "sampler": keras.saving.serialize_keras_object(self.sampler),
            "max_length": self.max_length,
            "start": self.start,
            "end": self.end,
            "seed": self.seed,
            "return_lengths": self.return_lengths,
            "return_log_probabilities": self.return_log_probabilities,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Generator":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("decoder", "sampler")
        }
        return cls(**{**config, **parts})

    def _asked(self, symbols: Any, lengths: Any, log_probabilities: Any) -> Any:
        results = [symbols]
        if self.return_lengths:
            results.append(lengths)
        if self.return_log_probabilities:
            results.append(log_probabilities)
        return tuple(results) if len(results) > 1 else symbols

    def _rows(self, context: Any, prompt: Any, max_lengths: Any, symbolic: bool = False) -> Any:
        """The number of rows."""
        if prompt is None and self.start is None:
            raise ValueError(f"{self.name}: start=None: expected a prompt.")
        for given in (context, prompt, max_lengths):
            if given is not None:
                return given.shape[0] if symbolic else ops.shape(given)[0]
        raise ValueError(
            f"{self.name}: expected a context, a prompt or max_lengths, which say how many rows."
        )

    def _read_prompt(
        self,
        batch: Any,
        states: list[Tensor],
        context: Tensor | None,
        prompt: Tensor | None,
        prompt_lengths: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """What the first step reads, and the states after all that comes before it."""
        classes = self.decoder.kind == "classes"
        dtype = "int32" if classes else self.compute_dtype
        start = None
        if self.start is not None:
            frame = ops.convert_to_tensor(self.start, dtype=dtype)
            start = ops.broadcast_to(frame, (batch,) if classes else (batch, self.decoder.size))
        if prompt is None:
            return start, states
        prompt = ops.cast(prompt, dtype)
        lengths = prompt_lengths
        if lengths is None:
            mask = self.decoder.compute_mask(prompt)
            if mask is None:
                mask = ops.ones_like(prompt[..., 0], dtype="bool")
            lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
        lengths = ops.cast(lengths, "int32")
        if start is not None:
            prompt = ops.concatenate([ops.expand_dims(start, 1), prompt], axis=1)
            lengths = lengths + 1
        last = ops.maximum(lengths - 1, 0)
        before = ops.expand_dims(ops.arange(ops.shape(prompt)[1]), 0) < ops.expand_dims(last, 1)
        states = self.decoder.read(prompt, states, context, before)
        index = ops.reshape(last, (-1, 1) if classes else (-1, 1, 1))
        return ops.squeeze(ops.take_along_axis(prompt, index, axis=1), 1), states


def _check_id(name: str, symbol: Any, size: int) -> None:
    if not isinstance(symbol, Integral) or isinstance(symbol, bool) or not 0 < symbol < size:
        raise ValueError(f"{name}={symbol!r}: expected an id from 1 to {size - 1}.")
