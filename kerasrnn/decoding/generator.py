"""The generator: a decoder, a strategy and the generation loop as one layer."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import keras
from keras import ops, tree

from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.decoding import loop
from kerasrnn.decoding.beam import Beam, BeamSearch
from kerasrnn.decoding.ensemble import Ensemble
from kerasrnn.decoding.phrases import RequiredPhrases
from kerasrnn.decoding.pointing import END, PointerDecoder
from kerasrnn.decoding.processors import (
    ForcedPrefix,
    LogitsProcessor,
    MinimumLength,
    check_processors,
)
from kerasrnn.decoding.recurrent_decoder import RecurrentDecoder
from kerasrnn.decoding.samplers import Draw, Greedy, Identity, Strategy, Threshold
from kerasrnn.distributions.forecast import Distribution
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.validation import PositiveInteger, Seed
from kerasrnn.wording import counted

Tensor = Any

DEFAULTS: dict[str, type[Strategy]] = {
    "classes": Greedy,
    "flags": Threshold,
    "values": Identity,
}
"""The default sampler of each kind, which needs no random numbers."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Generator(BaseLayer):
    """Generates sequences with a decoder, symbol by symbol, in a single graph.

        s_0 = initial_states(c)
        logits_t, s_t = step(y_{t-1}, s_{t-1}; c)
        y_t = sampler(processors(log_softmax(logits_t)))

    until a row has generated `end` or has its maximum length; with a `Beam` as the sampler, it
    returns the sequence with the highest score found. The first step reads `start`; or, with a
    prompt, the prompt's last symbol, after `start` and the other symbols of the prompt have been
    processed at once in the compiled time loop.

    Id 0, which is padding, is never generated; processors can forbid other symbols or make them
    less probable (see `kerasrnn.decoding.LogitsProcessor`). Random numbers are drawn before the
    loop, which is the same for every sampler. Each call continues the random sequence of the
    previous one; the same seed gives the same numbers on the same backend, but XLA generates
    different ones.

    Args:
        decoder: a `kerasrnn.Decoder`, a `kerasrnn.decoding.Ensemble` of several, or a
            `kerasrnn.decoding.PointerDecoder`, whose `start` and `end` are 1; it may be shared with
            another model. If two generators of one model share it, the model's first output must be
            the decoder's: otherwise Keras does not restore the sharing when it loads the model.
        sampler: a strategy from `kerasrnn.decoding`: `Greedy`, `Sample` or `Beam` for classes,
            `Threshold` or `Bernoulli` for flags, `Identity` for values, or `Draw` if the decoder
            predicts a distribution. Default: the first of its kind.
        max_length: the maximum number of symbols per row.
        start: the id, or the entries of the frame (or one number for all), that precedes the
            first symbol; None: prompts include it.
        end: the id that ends a row; None, or with flags and values: only the length ends it.
        seed: integer that makes the random numbers reproducible.
        return_lengths: whether to also return the lengths.
        return_log_probabilities: whether to also return the log-probabilities, of values the
            log-densities; not with values without a distribution, which have none.
        min_length: the number of symbols that must be generated before `end` is possible.
        return_scores: whether to also return the scores, with a `Beam`.
        return_attention: whether to also return the attention, if the decoder has one.
        processors: only with classes: a list of `kerasrnn.decoding.LogitsProcessor`, such as
            `ForbiddenSymbols` or `NoRepeatNGrams`, applied in order, before `min_length`.

    Call arguments:
        context: c, `(batch, width)`, unless the decoder has none.
        prompt: the beginning of the sequence, right-padded: ids `(batch, time)`, or frames
            `(batch, time, size)`. Without `start`, every row needs at least one symbol.
        prompt_lengths: `(batch,)`: the number of symbols of each prompt. Default: the number of
            symbols that the decoder does not treat as padding.
        max_lengths: `(batch,)`: the maximum number of symbols for each row.
        memory: `(batch, positions, width)`, for a decoder with attention.
        memory_mask: boolean `(batch, positions)`, True = may be attended to. Default: the mask
            attached to the memory, if any.
        source_ids: ids `(batch, positions)`, for a decoder that copies.
        prefix: only with classes: ids with which each sequence must begin, `(batch, length)`,
            right-padded with 0. Unlike a prompt, it is part of the output: it counts in the lengths
            and the scores, and has log-probabilities and attention. It may contain symbols that a
            processor forbids. It is truncated to the maximum length of its row.
        required: only with a `Beam`: phrases that each sequence must contain, ids `(batch, phrases,
            length)`, right-padded with 0; a phrase of zeros is none. See
            `kerasrnn.decoding.RequiredPhrases`.
        elements: what a `PointerDecoder` reads, `(batch, positions, features)`.

    Returns:
        What follows the prompt: ids `(batch, max_length)`, int32, including the one that ends a row
        and followed by 0, or frames `(batch, max_length, size)`. Then, if requested, the lengths
        `(batch,)`, int32; the log-probabilities of each symbol, `(batch, max_length)`, which are
        the model's own, unaffected by the sampler, and 0 after the end; the scores, `(batch,)`; the
        weights of the source's positions at each symbol, `(batch, max_length, positions)`, and 0
        after the end. With a `Beam` with `n_best`, all of them have a second axis, with the best
        sequence first; if fewer sequences are found, the others have the length 0 and the score
        `kerasrnn.decoding.IMPOSSIBLE`, -1e30, as does a row without any symbols.

    Masking: the padding of the prompt and the mask of the memory are used; no mask is passed on.

    Raises:
        ValueError: an argument is out of its range or does not apply to the decoder's kind; a
            requested result is unavailable; a context or a prompt is missing or does not fit; the
            number of rows is unknown.

    Example:

        >>> import numpy as np, kerasrnn
        >>> decoder = kerasrnn.Decoder(7, [kerasrnn.GRU(8)], context="first")
        >>> generator = kerasrnn.Generator(decoder, max_length=5, start=1, end=2)
        >>> ids = generator(np.ones((3, 4), "float32"))
        >>> tuple(ids.shape), bool(np.all(np.asarray(ids)[:, 0] > 0))
        ((3, 5), True)
    """

    @validation.checked
    def __init__(
        self,
        decoder: RecurrentDecoder | Ensemble,
        sampler: Strategy | None = None,
        max_length: PositiveInteger = 100,
        start: int | float | Sequence[float] | None = None,
        end: int | None = None,
        seed: Seed | None = None,
        return_lengths: bool = False,
        return_log_probabilities: bool = False,
        min_length: int = 0,
        return_scores: bool = False,
        return_attention: bool = False,
        processors: Sequence[LogitsProcessor] = (),
        **kwargs: Any,
    ) -> None:
        if not isinstance(decoder, (RecurrentDecoder, Ensemble)):
            raise ValueError(
                f"decoder={decoder!r}: expected a kerasrnn.Decoder, or an Ensemble or a "
                "PointerDecoder of kerasrnn.decoding."
            )
        points = isinstance(decoder, PointerDecoder)
        if points and end != END:
            raise ValueError(f"end={end!r}: expected {END}, the end of pointers.")
        sampler = DEFAULTS[decoder.kind]() if sampler is None else sampler
        if getattr(sampler, "kind", None) != decoder.kind:
            raise ValueError(
                f"sampler={sampler!r}: expected one of {decoder.kind}, which the decoder predicts."
            )
        if end is not None and decoder.kind != "classes":
            raise ValueError(f"end={end!r}: {decoder.kind} have no end; expected None.")
        for name, symbol in (("start", start), ("end", end)):
            if symbol is not None and decoder.kind == "classes":
                _check_id(name, symbol, END + 1 if points else decoder.output_size)
        if isinstance(sampler, Draw):
            sampler.of_forecast(decoder.forecast)  # which checks it
        distribution = isinstance(decoder.forecast, Distribution)
        if return_log_probabilities and decoder.kind == "values" and not distribution:
            raise ValueError(
                "return_log_probabilities=True: values without a distribution have no "
                "log-probabilities; expected False."
            )
        _check_min_length(min_length, max_length, end)
        if decoder.kind != "classes" and len(processors):
            raise ValueError(
                f"processors={processors!r}: {decoder.kind} have no logits to process; expected []."
            )
        of_classes = decoder.kind == "classes"
        processors = check_processors(processors, decoder.output_size, end) if of_classes else []
        minimum = [MinimumLength(min_length)] if min_length else []
        if minimum:
            check_processors([*processors, *minimum], decoder.output_size, end)
        for processor in processors:
            if processor.constrains and not isinstance(sampler, Beam):
                raise ValueError(
                    f"processors: {processor!r} needs a search; expected a Beam, received "
                    f"sampler={sampler!r}."
                )
        if return_scores and not isinstance(sampler, Beam):
            raise ValueError(
                f"return_scores=True: {sampler!r} computes no scores; expected a Beam."
            )
        if getattr(decoder, "attention", None) is None:
            penalty = getattr(sampler, "coverage_penalty", 0)
            for name, value, expected in (
                ("return_attention", return_attention, False),
                ("coverage_penalty", penalty, 0.0),
            ):
                if value:
                    raise ValueError(
                        f"{name}={value!r}: the decoder has no attention; expected {expected!r}."
                    )
        # In half precision, frames in units of their own would lose digits.
        super().__init__(autocast=decoder.forecast is None, **kwargs)
        if start is not None and decoder.kind != "classes":
            start = [start] * decoder.size if isinstance(start, Real) else start
            start = [float(entry) for entry in start]
            if len(start) != decoder.size:
                raise ValueError(
                    f"start has {counted(len(start), 'entry', 'entries')}; expected one, or "
                    f"{decoder.size}, the width of a frame."
                )
        elif start is not None:
            start = int(start)
        self.decoder = decoder
        self.sampler = sampler
        self.max_length = max_length
        self.start = start
        self.end = None if end is None else int(end)
        self.seed = seed
        self.return_lengths = return_lengths
        self.return_log_probabilities = return_log_probabilities
        self.min_length = int(min_length)
        self.return_scores = return_scores
        self.return_attention = return_attention
        self.processors = processors
        self._rules = [*processors, *minimum]
        # Keras tracks attributes: this saves the weights of layers inside processors.
        self.processor_layers = [layer for each in processors for layer in each.layers]
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(
        self,
        context_shape: Any = None,
        prompt_shape: Any = None,
        prompt_lengths_shape: Any = None,
        max_lengths_shape: Any = None,
        memory_shape: Any = None,
        source_ids_shape: Any = None,
        prefix_shape: Any = None,
        required_shape: Any = None,
        elements_shape: Any = None,
    ) -> None:
        if not self.decoder.built:
            frame = () if self.decoder.kind == "classes" else (self.decoder.size,)
            shapes = [context_shape, memory_shape]
            if isinstance(self.decoder, PointerDecoder):
                shapes.append(elements_shape)
            self.decoder.build((None, None, *frame), *shapes)
        self.built = True

    def build_from_config(self, config: Any) -> None:
        # The shape of a single tensor, which Keras would take for that of the context.
        if config and "input_shape" in config and self.decoder.context is None:
            of_memory = self.decoder.attention is not None
            self.build(memory_shape=config["input_shape"] if of_memory else None)
            return
        super().build_from_config(config)

    def call(
        self,
        context: Tensor | None = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        max_lengths: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        source_ids: Tensor | None = None,
        prefix: Tensor | None = None,
        required: Tensor | None = None,
        elements: Tensor | None = None,
    ) -> Any:
        self._check_prefix(prefix)
        self._check_required(required)
        of_source = self._of_source(source_ids, elements)
        batch = self._rows(context, prompt, max_lengths, memory)
        if memory is not None and memory_mask is None:
            memory_mask = get_keras_mask(memory)
        prepared = self.decoder.prepare_memory(memory, memory_mask, *of_source)
        states = self.decoder.initial_states(context, batch, prepared)
        if prompt is not None:
            prompt, prompt_lengths = self._prompt(prompt, prompt_lengths)
        previous, states = self._read_prompt(
            batch, states, prompt, prompt_lengths, context, (memory, memory_mask, *of_source)
        )
        if self.decoder.kind != "classes":
            prompt = prompt_lengths = None  # no processor reads them
        longest = ops.full((batch,), self.max_length, dtype="int32")
        if max_lengths is not None:
            longest = ops.cast(ops.minimum(max_lengths, longest), "int32")
        # What each step reads of its row, besides the last symbol and the states.
        constants = {"context": context, "prepared": prepared}
        for_processors = (prompt, prompt_lengths, prefix, required)
        if isinstance(self.sampler, Beam):
            previous, states, constants, for_processors = tree.map_structure(
                lambda x: None if x is None else ops.repeat(x, self.sampler.width, axis=0),
                (previous, states, constants, for_processors),
            )

        def step(
            previous: Tensor, states: list[Tensor], constants: dict[str, Any]
        ) -> tuple[Tensor, list[Tensor], Any]:
            logits, states = self.decoder.step(previous, states, **constants)
            return logits, states, self.decoder.weights_of_step(states)

        positions = None if memory is None else ops.shape(memory)[1]
        policy = self._policy(longest, positions, memory_mask, *for_processors)
        return self._requested(
            loop.decode(step, policy, previous, states, self.max_length, constants)
        )

    def compute_output_spec(
        self,
        context: Any = None,
        prompt: Any = None,
        prompt_lengths: Any = None,
        max_lengths: Any = None,
        memory: Any = None,
        memory_mask: Any = None,
        source_ids: Any = None,
        prefix: Any = None,
        required: Any = None,
        elements: Any = None,
    ) -> Any:
        self._check_prefix(prefix)
        self._check_required(required)
        batch = self._rows(context, prompt, max_lengths, memory, symbolic=True)
        positions = None if memory is None else memory.shape[1]
        classes = self.decoder.kind == "classes"
        n_best = self.sampler.n_best if isinstance(self.sampler, Beam) else None
        rows = (batch,) if n_best is None else (batch, n_best)
        steps = (*rows, self.max_length)
        return self._requested(
            loop.Sequences(
                keras.KerasTensor(steps, "int32")
                if classes
                else keras.KerasTensor((*steps, self.decoder.size), self._symbol_dtype),
                keras.KerasTensor(rows, "int32"),
                keras.KerasTensor(steps, "float32"),
                keras.KerasTensor(rows, "float32"),
                keras.KerasTensor((*steps, positions), "float32"),
            )
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
            "min_length": self.min_length,
            "return_scores": self.return_scores,
            "return_attention": self.return_attention,
            "processors": keras.saving.serialize_keras_object(self.processors),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Generator":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("decoder", "sampler", "processors")
            if name in config  # files of version 0.1 have no processors
        }
        return cls(**{**config, **parts})

    def _policy(
        self,
        longest: Tensor,
        positions: Any,
        source_mask: Tensor | None,
        prompt: Tensor | None,
        prompt_lengths: Tensor | None,
        prefix: Tensor | None,
        required: Tensor | None,
    ) -> loop.Policy:
        """The policy for rows with these maximum lengths and numbers of source positions."""
        size = self.decoder.output_size
        if size is None:
            size = self.decoder.size_of(positions)
        processors = list(self._rules)
        if prefix is not None:
            processors.append(ForcedPrefix(prefix))
        if required is not None:
            processors.append(RequiredPhrases(required))
        if isinstance(self.sampler, Beam):
            return BeamSearch(
                self.sampler,
                size,
                longest,
                self.max_length,
                self.end,
                processors,
                positions,
                source_mask,
                self.return_attention,
                prompt,
                prompt_lengths,
            )
        sampler, forecast = self.sampler, self.decoder.forecast
        if forecast is not None:
            sampler = sampler.of_forecast(forecast)
        noise, shape = None, sampler.noise_shape(size)
        if shape is not None:
            noise = keras.random.uniform(
                (self.max_length, ops.shape(longest)[0], *shape),
                dtype="float32",
                seed=self.seed_generator,
            )
        return loop.Sampling(
            sampler,
            size,
            longest,
            noise,
            self.max_length,
            self.end,
            self._symbol_dtype,
            processors,
            positions if self.return_attention else None,
            prompt,
            prompt_lengths,
            forecast if isinstance(forecast, Distribution) else None,
        )

    def _requested(self, sequences: loop.Sequences) -> Any:
        results = [sequences.symbols]
        for requested, result in (
            (self.return_lengths, sequences.lengths),
            (self.return_log_probabilities, sequences.log_probabilities),
            (self.return_scores, sequences.scores),
            (self.return_attention, sequences.attention),
        ):
            if requested:
                results.append(result)
        return tuple(results) if len(results) > 1 else sequences.symbols

    def _rows(
        self, context: Any, prompt: Any, max_lengths: Any, memory: Any, symbolic: bool = False
    ) -> Any:
        """The number of rows."""
        if prompt is None and self.start is None:
            raise ValueError(f"{self.name}: start=None: expected a prompt.")
        for tensor in (context, prompt, max_lengths, memory):
            if tensor is not None:
                return tensor.shape[0] if symbolic else ops.shape(tensor)[0]
        raise ValueError(
            f"{self.name}: expected a context, a memory, a prompt or max_lengths, which determine "
            "the number of rows."
        )

    def _read_prompt(
        self,
        batch: Any,
        states: list[Tensor],
        prompt: Tensor | None,
        prompt_lengths: Tensor | None,
        context: Tensor | None,
        source: tuple[Tensor | None, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the input of the first step, and the states after everything before it.

        `source` contains the memory, its mask and the elements, if there are any.
        """
        classes = self.decoder.kind == "classes"
        start = None
        if self.start is not None:
            frame = ops.convert_to_tensor(self.start, dtype=self._symbol_dtype)
            start = ops.broadcast_to(frame, (batch,) if classes else (batch, self.decoder.size))
        if prompt is None:
            return start, states
        lengths = prompt_lengths
        if start is not None:
            prompt = ops.concatenate([ops.expand_dims(start, 1), prompt], axis=1)
            lengths = lengths + 1
        last = ops.maximum(lengths - 1, 0)
        before = ops.expand_dims(ops.arange(ops.shape(prompt)[1]), 0) < ops.expand_dims(last, 1)
        if self.decoder.copied is not None:
            source = source[:2]  # a copied symbol is read as an unknown one, whichever it is
        states = self.decoder.prefill(prompt, states, context, before, *source)
        index = ops.reshape(last, (-1, 1) if classes else (-1, 1, 1))
        return ops.squeeze(ops.take_along_axis(prompt, index, axis=1), 1), states

    def _prompt(self, prompt: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """A prompt and the lengths of its rows."""
        prompt = ops.cast(prompt, self._symbol_dtype)
        if lengths is None:
            mask = self.decoder.compute_mask(prompt)
            if mask is None:
                mask = ops.ones_like(prompt[..., 0], dtype="bool")
            lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
        return prompt, ops.cast(lengths, "int32")

    def _of_source(self, source_ids: Any, elements: Any) -> tuple[Any, ...]:
        """What the decoder reads of the source besides the memory."""
        points = isinstance(self.decoder, PointerDecoder)
        for name, given, expected in (
            ("source_ids", source_ids, not points),
            ("elements", elements, points),
        ):
            if given is not None and not expected:
                raise ValueError(
                    f"{self.name}: {name} were given; {type(self.decoder).__name__} does not read "
                    "them; expected none."
                )
        if points:
            return (elements,)
        return () if source_ids is None else (source_ids,)

    @property
    def _symbol_dtype(self) -> str:
        if self.decoder.forecast is not None:
            return "float32"
        return "int32" if self.decoder.kind == "classes" else self.compute_dtype

    def _check_prefix(self, prefix: Any) -> None:
        if prefix is None:
            return
        if self.decoder.kind != "classes":
            raise ValueError(
                f"{self.name}: a prefix was given; {self.decoder.kind} do not support one; "
                "expected None."
            )
        if len(prefix.shape) != 2:
            raise ValueError(
                f"{self.name}: prefix has the shape {tuple(prefix.shape)}; expected (batch, "
                "length)."
            )

    def _check_required(self, required: Any) -> None:
        if required is None:
            return
        if not isinstance(self.sampler, Beam):
            raise ValueError(
                f"{self.name}: required phrases were given; {self.sampler!r} does not search for "
                "sequences that contain them. Expected a Beam, or None."
            )
        if len(required.shape) != 3 or None in required.shape[1:]:
            raise ValueError(
                f"{self.name}: required has the shape {tuple(required.shape)}; expected (batch, "
                "phrases, length), with known numbers of phrases and symbols."
            )


def _check_id(name: str, symbol: Any, size: int) -> None:
    if not isinstance(symbol, Integral) or isinstance(symbol, bool) or not 0 < symbol < size:
        raise ValueError(f"{name}={symbol!r}: expected an id from 1 to {size - 1}.")


def _check_min_length(min_length: Any, max_length: int, end: int | None) -> None:
    if (
        not isinstance(min_length, Integral)
        or isinstance(min_length, bool)
        or not 0 <= min_length <= max_length
    ):
        raise ValueError(
            f"min_length={min_length!r}: expected an integer from 0 to max_length, {max_length}."
        )
    if min_length and end is None:
        raise ValueError(f"min_length={min_length!r}: expected 0 without an end.")
