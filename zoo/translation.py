"""Text-to-text models: an encoder-decoder with the vectorizers of both sides."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.decoding.beam import Beam
from kerasrnn.decoding.loop import without_finished_rows
from kerasrnn.decoding.phrases import ForbiddenPhrases
from kerasrnn.decoding.processors import LogitsProcessor, check_processors
from kerasrnn.decoding.samplers import Strategy
from kerasrnn.recurrence.loop import never_exported
from kerasrnn.validation import ArgumentError, PositiveInteger
from kerasrnn.wording import counted
from kerasrnn.zoo import reading
from kerasrnn.zoo.copying import check_vectorizers, extensions, padded
from kerasrnn.zoo.generation import generator
from kerasrnn.zoo.input_checks import to_call, to_predict
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.reading import BLANK, UNKNOWN

Tensor = Any

TEXTS = keras.Input((), dtype="string", name="texts")
"""The vectorizers of a translator."""

LEGACY_LIMIT = (2.0, 10)
"""The limit of models saved by version 0.1, which had no such argument."""

MOST_GENERATORS = 16
"""Number of generators that a translator caches, one per decoding configuration."""


class Translation(NamedTuple):
    """A generated text, with its symbols, score and attention."""

    text: str
    symbols: list[str]
    """The symbols of the text, without the end."""

    source: list[str]
    """The symbols of the source."""

    score: float
    """The sum of the symbols' log-probabilities, including the end; with a beam, its score."""

    attention: Any
    """The attention weights of each symbol, including the end, over `source`: an array `(symbols +
    1, len(source))`; a truncated text has no end. None without attention."""

    truncated: bool = False
    """Whether the text was truncated at its maximum length."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Translator(keras.Model):
    """An encoder-decoder from texts to texts.

    It contains the model of `zoo.encoder_decoder` that was trained on ids, and the vectorizers of
    both sides. For a target vocabulary of n symbols, including padding and unknown, the id of the
    end is n and that of the start n + 1: see `zoo.target_ids`, which prepares the data for `fit`.

    It is saved, loaded and called like any Keras model: a call and `predict` take texts, like
    `translate`, and return the greedy translations, strings `(batch,)`, on TensorFlow.

    Args:
        model: a model of `zoo.encoder_decoder`, from Tokens to Classes, with two classes more than
            the target has symbols; or a list of such models, which translate together as an
            ensemble: see `zoo.generator`.
        source: a built `keras.layers.TextVectorization` whose `split` is "whitespace" or
            "character", or a `kerasrnn.SentencePieceVectorization`.
        target: another such layer.
        max_length: the maximum number of symbols of a text, including the end.
        length_limit: `(a, b)`: a text has at most `a * n + b` symbols for a source of n symbols,
            but at least one, and never more than `max_length`. This stops beams, and texts that do
            not end, early. Choose it from the training data. Default: only `max_length`.

    With a model of `zoo.encoder_decoder(copy=True)`, which copies words from the source,
    translations have these words as the source has them. Only `translate`, `explain` and `writer`
    support it: the ids of such words are not computed in a graph.

    The start, padding and unknown symbols are never generated. A text without symbols has an empty
    translation. These rules and the limits apply to a call, `translate`, `serving` and `writer`
    alike.

    Raises:
        ValueError: `model` has a different number of classes; a vectorizer is of another type; a
            limit is out of range.

    Example: an untrained model.

        >>> import keras, kerasrnn
        >>> from kerasrnn import zoo
        >>> letters = keras.layers.TextVectorization(split="character", vocabulary=list("abc"))
        >>> sounds = keras.layers.TextVectorization(vocabulary=["AE", "B", "K"], standardize=None)
        >>> model = zoo.encoder_decoder(
        ...     zoo.Tokens(5, 8), zoo.Classes(7), cell="gru", units=8, attention="bahdanau")
        >>> translator = zoo.Translator(model, letters, sounds, max_length=6)
        >>> best = translator.explain(["cab"], beam=3)[0]
        >>> best.source, best.attention.shape[1], best.text == translator.translate(["cab"], 3)[0]
        (['c', 'a', 'b'], 3, True)
    """

    @validation.checked
    def __init__(
        self,
        model: keras.Model | Sequence[keras.Model],
        source: keras.layers.Layer,
        target: keras.layers.Layer,
        max_length: PositiveInteger = 100,
        length_limit: tuple[float, int] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, layer in (("source", source), ("target", target)):
            reading.check_vectorizer(name, layer)
        limit = _checked_limit(length_limit)
        models = [model] if isinstance(model, keras.Model) else validation.sequence("model", model)
        for n, each in enumerate(models):
            validation.model("model" if len(models) == 1 else f"model[{n}]", each)
        if not models:
            raise ValueError("model=[]: expected at least one model.")
        super().__init__(**kwargs)
        model, *others = models
        self.model = model
        self.others = others
        self.source = source
        self.target = target
        self.max_length = max_length
        self.length_limit = limit
        self.symbols = [str(symbol) for symbol in target.get_vocabulary()]
        self.end = len(self.symbols)
        self.start = self.end + 1
        decoders = [layer for layer in model.layers if isinstance(layer, kerasrnn.Decoder)]
        self.copied_symbols = (decoders[0].copied or 0) if decoders else 0
        parts = "the ids of the source"
        if self.copied_symbols:
            check_vectorizers("copy=True", source, target)
            parts += ", those of the source in the extended vocabulary,"
        expected = 3 if self.copied_symbols else 2
        if len(model.inputs) != expected:
            raise ValueError(
                f"model has {counted(len(model.inputs), 'input')}; expected {expected}: {parts} "
                "and the previous symbols."
            )
        classes = model.outputs[0].shape[-1] - self.copied_symbols
        if classes != self.end + 2:
            raise ValueError(
                f"model has {classes} classes; expected {self.end + 2}: the target's {self.end} "
                "symbols, the end and the start."
            )
        # Hidden from Keras, which would save them although they have no separate weights.
        self._writers = SimpleNamespace(known={}, functions={})
        self._greedy = SimpleNamespace(model=self._generator())
        self.build()

    def build(self, input_shape: Any = None) -> None:
        self.built = True  # all layers with weights were built before

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        self._check_graph("a call")
        return super().__call__(to_call(TEXTS, inputs), *args, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        """The greedy translations, strings `(batch,)`."""
        return self._texts(self._greedy.model, inputs)

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> Any:
        self._check_graph("predict")
        x, batch_size = to_predict(TEXTS, x, batch_size)
        return super().predict(x, batch_size=batch_size, **kwargs)

    def _check_graph(self, what: str) -> None:
        """Raise ValueError if texts cannot be converted in a graph."""
        if self.copied_symbols:
            raise ValueError(
                f"{what}: the model copies symbols, whose ids are not computed in a graph; "
                "expected translate, or writer, from ids to ids."
            )

    def _texts(self, write: keras.Model, inputs: Tensor) -> Tensor:
        """The output of a generator as strings, in a graph."""
        import tensorflow as tf

        source_ids = self.source(inputs)
        # One step of padding if no text has a symbol: an encoder reads at least one.
        source_ids = tf.pad(
            source_ids, [[0, 0], [0, tf.cast(tf.equal(tf.shape(source_ids)[1], 0), "int32")]]
        )
        ids, *_ = write([source_ids, self._longest(source_ids)])
        is_symbol = (ids > 0) & (ids < self.end)
        separator = reading.separator(self.target)
        texts = tf.where(is_symbol, tf.gather([*self.symbols, "", ""], ids) + separator, "")
        text = tf.strings.reduce_join(texts, axis=-1)
        if isinstance(self.target, kerasrnn.SentencePieceVectorization):
            text = tf.strings.regex_replace(text, BLANK, " ")
            return tf.strings.regex_replace(text, "^ +| +$", "")
        return tf.strings.regex_replace(text, f"{separator}$", "") if separator else text

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0],), "string")

    def serving(
        self,
        beam: int = 1,
        length_penalty: float = 1.0,
        processors: Sequence[LogitsProcessor] = (),
    ) -> Model:
        """A model from texts to texts, both strings `(batch,)`, for `kerasrnn.export`.

        It shares its layers with this one and should not be saved as a Keras model. It cannot
        report truncated texts.

        Args:
            beam: number of hypotheses; 1: greedy decoding.
            length_penalty: length penalty of the beam.
            processors: see `translate`.
        """
        self._check_graph("serving")
        texts = keras.Input((), dtype="string", name="texts")
        write = self._generator(None if beam == 1 else Beam(beam, length_penalty), processors)
        return Model(texts, _Serving(self, write, name="translations")(texts))

    def writer(
        self,
        beam: int = 1,
        length_penalty: float = 1.0,
        processors: Sequence[LogitsProcessor] = (),
    ) -> Model:
        """`serving` without texts: from the ids of the source to those of the output.

        Returns:
            A model from "source", int32 `(batch, time)`, to "sequences", int32 `(batch,
            max_length)`: including the end of a text, padded with 0; `text` decodes a row. A row
            without an end was truncated. If the model copies, there is a second input "source_ids",
            from `zoo.copied_ids`, and the output has such ids.
        """
        ids = keras.Input((None,), dtype="int32", name="source")
        write = self._generator(None if beam == 1 else Beam(beam, length_penalty), processors)
        inputs = [ids]
        if self.copied_symbols:
            inputs.append(keras.Input((None,), dtype="int32", name="source_ids"))
        sequences, *_ = write([*inputs, _Longest(self, name="longest")(ids)])
        sequences = keras.layers.Identity(name="sequences")(sequences)
        return Model(inputs if len(inputs) > 1 else ids, sequences)

    def text(self, ids: Sequence[int]) -> str:
        """The text of a row of ids, as `writer` returns it."""
        return reading.joined(self.target, [self.symbols[n] for n in ids if 0 < n < self.end])

    def translate(
        self,
        texts: Sequence[str],
        beam: int = 1,
        length_penalty: float = 1.0,
        sampler: Strategy | None = None,
        copy_unknown: bool = False,
        batch_size: int = 64,
        n_best: int | None = None,
        prefix: Sequence[str] | None = None,
        processors: Sequence[LogitsProcessor] = (),
        jit_compile: bool = False,
        required: Sequence[Sequence[str]] | None = None,
        forbidden: Sequence[str] = (),
    ) -> list[str] | list[list[str]]:
        """Translate texts.

        A warning names the texts whose translation was truncated at its maximum length.

        Args:
            texts: source texts: a list, or another one-dimensional collection or iterator.
            beam: number of hypotheses; 1: greedy decoding.
            length_penalty: length penalty of the beam; see `kerasrnn.decoding.Beam`.
            sampler: a sampler instead of a beam: `kerasrnn.decoding.Sample`, ...
            copy_unknown: whether to generate unknown words and replace each by the source word with
                the highest attention weight (Luong et al. 2015, "Addressing the rare word problem
                in neural machine translation"). Requires attention, and words or characters on both
                sides.
            batch_size: number of texts per batch.
            n_best: maximum number of translations per text, best first; returns lists of lists.
                Requires a beam that is at least as wide.
            prefix: the forced beginning of each translation, one text for each of `texts`; may be
                empty. Its symbols are part of the result and of its score.
            processors: functions of the logits, applied before symbols are chosen: a list of
                `kerasrnn.decoding.NoRepeatNGrams`, `RepetitionPenalty`, ...
            jit_compile: whether XLA compiles the encoder and the generation loop. Each size of a
                batch, rounded up, is compiled at its first use, which takes some seconds; it pays
                for a process that translates many small batches, such as a server.
            required: phrases that a translation must contain: a list of texts for each of `texts`,
                which may be empty. Requires a beam, of a width above the number of their symbols:
                see `kerasrnn.decoding.RequiredPhrases`. The translation is empty, with a warning,
                if none with these phrases is found.
            forbidden: phrases that no translation may contain, a list of texts.

        Raises:
            ValueError: `texts` are not texts; an argument is out of range; `copy_unknown` is not
                possible; a prefix or a phrase has an unknown symbol, or a prefix is as long as the
                maximum length; phrases are required without a beam.
        """
        translations = self.explain(
            texts,
            beam,
            length_penalty,
            sampler,
            copy_unknown,
            batch_size,
            n_best,
            prefix,
            processors,
            jit_compile,
            required,
            forbidden,
        )
        rows = [row if isinstance(row, list) else [row] for row in translations]
        cut = [n for n, row in enumerate(rows) if any(each.truncated for each in row)]
        if cut:
            shown = ", ".join(map(str, cut[:10])) + (", ..." if len(cut) > 10 else "")
            warnings.warn(
                f"{len(cut)} of {len(rows)} translations were truncated at their maximum length "
                f"(max_length={self.max_length}, length_limit={self.length_limit}): those of "
                f"texts {shown}.",
                stacklevel=2,
            )
        if required is not None:
            without = [n for n, row in enumerate(rows) if required[n] and not row[0].symbols]
            if without:
                warnings.warn(
                    f"No translation with all required phrases was found for texts "
                    f"{', '.join(map(str, without))}: expected a wider beam, or fewer phrases.",
                    stacklevel=2,
                )
        lists = [[translation.text for translation in row] for row in rows]
        return lists if isinstance(translations[0], list) else [row[0] for row in lists]

    @validation.checked
    def explain(
        self,
        texts: Sequence[str],
        beam: PositiveInteger = 1,
        length_penalty: float = 1.0,
        sampler: Strategy | None = None,
        copy_unknown: bool = False,
        batch_size: PositiveInteger = 64,
        n_best: PositiveInteger | None = None,
        prefix: Sequence[str] | None = None,
        processors: Sequence[LogitsProcessor] = (),
        jit_compile: bool = False,
        required: Sequence[Sequence[str]] | None = None,
        forbidden: Sequence[str] = (),
    ) -> list[Translation] | list[list[Translation]]:
        """Like `translate`, but with source symbols, scores, attention and truncation."""
        texts = reading.as_texts("texts", texts)
        if copy_unknown and self.copied_symbols:
            raise ValueError("copy_unknown=True: the model copies symbols itself; expected False.")
        if copy_unknown:
            self.check_copying()
        if sampler is not None and beam != 1:
            raise ValueError(f"beam={beam!r}: expected 1 with sampler={sampler!r}.")
        if sampler is not None and n_best is not None:
            raise ValueError(f"n_best={n_best!r}: expected None with sampler={sampler!r}.")
        if sampler is None and (beam != 1 or n_best is not None):
            sampler = Beam(beam, length_penalty, n_best=n_best)
        words = reading.tokenized(self.source, texts)
        copied = reading.surfaces(self.source, texts) if copy_unknown else words
        beyond: list[Any] = [None] * len(texts)
        if self.copied_symbols:
            beyond = extensions(self.source, self.target, texts, self.copied_symbols)
        prefixes = self._prefixes(prefix, words)
        phrases = self._required(required, sampler, beyond)
        if len(forbidden):
            processors = [ForbiddenPhrases(self._phrases("forbidden", forbidden)), *processors]
        generator = self._generator(
            sampler,
            processors,
            copy_unknown,
            prefix is not None,
            None if phrases is None else phrases.shape[1:],
        )
        translations: list[Any] = [None] * len(texts)
        # Batch texts of similar length.
        order = sorted(range(len(texts)), key=lambda n: len(words[n]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids = reading.numbered(self.source, [texts[n] for n in rows])
            count, steps = len(rows), max(ids.shape[1], 1)
            if jit_compile or keras.backend.backend() != "tensorflow":
                # Each shape is compiled separately.
                count = batch_size if start else min(1 << (count - 1).bit_length(), batch_size)
                step = max(8, 2 ** (steps.bit_length() - 3))
                steps = -(-steps // step) * step  # a multiple of 8, or up to a quarter more
            more = count - len(rows)
            ids = np.pad(ids, ((0, more), (0, steps - ids.shape[1])))
            arguments = [ids]
            if self.copied_symbols:
                more_ids = padded([*(beyond[n].ids for n in rows), *[[]] * more])
                widths = ((0, 0), (0, steps - more_ids.shape[1]))
                arguments.append(np.pad(more_ids, widths))
            if prefixes is not None:
                arguments.append(padded([*(prefixes[n] for n in rows), *[[]] * more]))
            if phrases is not None:
                arguments.append(np.pad(phrases[rows], ((0, more), (0, 0), (0, 0))))
            write = self._function(generator, count == 1, jit_compile)
            results = [ops.convert_to_numpy(x) for x in write(*arguments)]
            for k, n in enumerate(rows):
                known = [*self.symbols, "", "", *(beyond[n].written if beyond[n] else [])]
                translations[n] = self._translations(
                    words[n], copied[n], known, *(x[k] for x in results)
                )
        return translations

    def check_copying(self) -> None:
        """Raise ValueError unless unknown words can be copied from the source."""
        if self._decoder().attention is None:
            raise ValueError(
                "copy_unknown=True: the model has no attention, which selects the words to copy."
            )
        check_vectorizers("copy_unknown=True", self.source, self.target)

    def get_config(self) -> dict[str, Any]:
        parts = {}
        for name in ("model", "source", "target"):
            part = getattr(self, name)
            if name == "model" and self.others:
                part = [part, *self.others]
            parts[name] = keras.saving.serialize_keras_object(part)
        limits = {"max_length": self.max_length, "length_limit": self.length_limit}
        return {"name": self.name, **parts, **limits}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Translator":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("model", "source", "target")
        }
        return cls(**{"length_limit": LEGACY_LIMIT, **config, **parts})

    def _longest(self, ids: Tensor) -> Tensor:
        """The maximum number of symbols of each text: 0 if the source is empty."""
        lengths = ops.sum(ops.cast(ops.not_equal(ids, 0), "int32"), axis=1)
        longest = ops.full_like(lengths, self.max_length)
        if self.length_limit is not None:
            factor, more = self.length_limit
            limit = ops.cast(ops.floor(factor * ops.cast(lengths, "float32")), "int32") + more
            longest = ops.minimum(longest, ops.maximum(limit, 1))
        return ops.where(lengths > 0, longest, 0)

    def _prefixes(
        self, prefix: Sequence[str] | None, words: Sequence[list[str]]
    ) -> list[list[int]] | None:
        """The ids of the prefixes."""
        if prefix is None:
            return None
        prefixes = reading.as_texts("prefix", prefix)
        if len(prefixes) != len(words):
            raise ValueError(
                f"prefix has {counted(len(prefixes), 'text')}; expected one for each of texts, "
                f"{len(words)}."
            )
        longest = ops.convert_to_numpy(self._longest(padded([[1] * len(row) for row in words])))
        known = {symbol: n for n, symbol in enumerate(self.symbols)}
        rows = reading.tokenized(self.target, prefixes)
        for n, symbols in enumerate(rows):
            for symbol in symbols:
                if known.get(symbol, UNKNOWN) == UNKNOWN:
                    raise ValueError(
                        f"prefix[{n}]={prefixes[n]!r}: {symbol!r} is not a symbol of the target."
                    )
            if symbols and len(symbols) >= longest[n]:
                raise ValueError(
                    f"prefix[{n}]={prefixes[n]!r}: has {counted(len(symbols), 'symbol')}; expected "
                    f"fewer than the longest translation has, {longest[n]}."
                )
        return [[known[symbol] for symbol in symbols] for symbols in rows]

    def _phrases(
        self, name: str, phrases: Sequence[str], more: Mapping[str, int] | None = None
    ) -> list[list[int]]:
        """The ids of phrases, of the target's symbols and `more`."""
        texts = reading.as_texts(name, phrases)
        known = {symbol: n for n, symbol in enumerate(self.symbols) if n > UNKNOWN}
        known |= more or {}
        rows = reading.tokenized(self.target, texts)
        for n, symbols in enumerate(rows):
            if not symbols:
                raise ValueError(f"{name}[{n}]={texts[n]!r}: has no symbols; expected a phrase.")
            for symbol in symbols:
                if symbol not in known:
                    raise ValueError(
                        f"{name}[{n}]={texts[n]!r}: {symbol!r} is not a symbol of the target."
                    )
        return [[known[symbol] for symbol in symbols] for symbols in rows]

    def _required(
        self, required: Sequence[Sequence[str]] | None, sampler: Any, beyond: Sequence[Any]
    ) -> np.ndarray | None:
        """The ids of the required phrases, int32 `(texts, phrases, length)`."""
        if required is None:
            return None
        if not isinstance(sampler, Beam):
            raise ValueError(
                f"required={required!r}: phrases are searched for; expected a beam of at least 2."
            )
        if isinstance(required, (str, bytes)) or len(required) != len(beyond):
            raise ValueError(
                f"required={required!r}: expected a list of phrases for each of texts, "
                f"{len(beyond)}."
            )
        rows = [
            self._phrases(f"required[{n}]", row, beyond[n].symbols if beyond[n] else None)
            if len(row)
            else []
            for n, row in enumerate(required)
        ]
        most = max(1, *map(len, rows))
        longest = max([1, *(len(phrase) for row in rows for phrase in row)])
        ids = np.zeros((len(rows), most, longest), "int32")
        for n, row in enumerate(rows):
            for k, phrase in enumerate(row):
                ids[n, k, : len(phrase)] = phrase
        return ids

    def _decoder(self) -> kerasrnn.Decoder:
        return self.model.get_layer("decoder")

    def _generator(
        self,
        sampler: Strategy | None = None,
        processors: Sequence[LogitsProcessor] = (),
        unknown: bool = False,
        prefix: bool = False,
        required: Sequence[int] | None = None,
    ) -> keras.Model:
        """It shares its layers with the model, so later training changes it, too.

        Args:
            sampler: a sampler; None: greedy decoding.
            processors: in addition to those for the forbidden symbols.
            unknown: whether the unknown symbol may be generated.
            prefix: whether to add an input for the prefixes.
            required: the shape of the input for the required phrases of a text, if any.
        """
        size = self.end + 2 + self.copied_symbols
        processors = check_processors(processors, size, self.end)
        beam = isinstance(sampler, Beam)
        known = self._writers.known
        key = (_key(sampler), *map(_key, processors), unknown, prefix, required)
        if key not in known:
            attends = self._decoder().attention is not None
            while len(known) >= MOST_GENERATORS:
                self._writers.functions.pop(known.pop(next(iter(known))), None)
            known[key] = generator(
                [self.model, *self.others] if self.others else self.model,
                sampler,
                self.max_length,
                self.start,
                self.end,
                max_lengths=True,
                return_lengths=True,
                return_log_probabilities=True,
                return_scores=beam,
                return_attention=attends,
                processors=processors,
                forbidden=[self.start] if unknown else [UNKNOWN, self.start],
                prefix=prefix,
                required=required,
            )
            known[key].jit_compile = False
        return known[key]

    def _function(
        self, generator: keras.Model, single: bool, jit_compile: bool
    ) -> Callable[..., Sequence[Tensor]]:
        """A function of the ids, and of what else the generator has inputs for: the ids of what is
        copied, and the prefixes.

        In TensorFlow, without XLA, it is traced once for a single text, and once for several.
        """

        copies = 1 if self.copied_symbols else 0

        def inputs_of(ids: Tensor, *rest: Tensor) -> list[Tensor]:
            return [ids, *rest[:copies], self._longest(ids), *rest[copies:]]

        def call(*inputs: Tensor) -> Sequence[Tensor]:
            return generator(inputs_of(*inputs), training=False)

        if keras.backend.backend() != "tensorflow":
            if generator.jit_compile != jit_compile:
                generator.jit_compile, generator.predict_function = jit_compile, None
            return lambda *inputs: generator.predict_on_batch(
                [*map(ops.convert_to_tensor, inputs_of(*inputs))]
            )
        functions = self._writers.functions.setdefault(generator, {})
        key = single, jit_compile
        if key not in functions:
            import tensorflow as tf

            def of_several(*inputs: Tensor) -> Sequence[Tensor]:
                with never_exported(), without_finished_rows():
                    return call(*inputs)

            inputs = [x for x in generator.inputs if x.name != "max_lengths"]
            functions[key] = tf.function(
                call if single or jit_compile else of_several,
                [tf.TensorSpec((1 if single else None, *x.shape[1:]), x.dtype) for x in inputs],
                autograph=False,
                jit_compile=jit_compile or None,
            )
        return functions[key]

    def _translations(
        self,
        source: list[str],
        copied: list[str],
        known: list[str],
        ids: Any,
        lengths: Any,
        *rest: Any,
    ) -> Any:
        """The result for one text: a translation, or a list of them."""
        if ids.ndim == 1:
            return self._translation(source, copied, known, ids, lengths, *rest)
        count = max(int((lengths > 0).sum()), 1)
        return [
            self._translation(source, copied, known, ids[n], lengths[n], *(x[n] for x in rest))
            for n in range(count)
        ]

    def _translation(
        self,
        source: list[str],
        copied: list[str],
        known: list[str],
        ids: Any,
        length: Any,
        *rest: Any,
    ) -> Translation:
        attention = None
        if self._decoder().attention is not None:
            *rest, attention = rest
            attention = attention[:length, : len(source)]
        truncated = length > 0 and ids[length - 1] != self.end
        ids = [int(n) for n in ids[:length] if n != self.end]
        symbols = [
            copied[attention[k].argmax()] if n == UNKNOWN else known[n] for k, n in enumerate(ids)
        ]
        score = rest[1] if len(rest) > 1 else rest[0].sum()  # of a beam, or log-probabilities
        return Translation(
            reading.joined(self.target, symbols),
            symbols,
            source,
            float(score) if length else 0.0,
            attention,
            bool(truncated),
        )


class _Serving(keras.layers.Layer):
    """A translator's generator as a layer."""

    def __init__(self, translator: Translator, write: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._convert_input_args = False
        self.translator = translator
        self.generator = write

    def call(self, inputs: Tensor) -> Tensor:
        return self.translator._texts(self.generator, inputs)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0],), "string")


class _Longest(keras.layers.Layer):
    """The maximum number of symbols of a translator's texts."""

    def __init__(self, translator: Translator, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.of = translator._longest

    def call(self, inputs: Tensor) -> Tensor:
        return self.of(inputs)


def _key(strategy: Any) -> Any:
    """A cache key of a sampler or processor: for those of this library, their configuration."""
    own = type(strategy).__module__.startswith("kerasrnn.") or strategy is None
    own = own and not getattr(strategy, "layers", ())  # whose weights are not in the configuration
    return repr(strategy) if own else id(strategy)


def _checked_limit(limit: Any) -> tuple[float, int] | None:
    if limit is None:
        return None
    if not isinstance(limit, (tuple, list)) or len(limit) != 2:
        raise ArgumentError("length_limit", limit, "(factor, number of symbols)", "None")
    factor = validation.number("length_limit[0]", limit[0], minimum=0)
    return factor, validation.integer("length_limit[1]", limit[1], minimum=0)
