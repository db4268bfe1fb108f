"""Text in, text out: an encoder-decoder with the vectorizers of both sides."""

import string
from collections.abc import Sequence
from numbers import Integral
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn.decoding.beam import Beam
from kerasrnn.decoding.samplers import Strategy
from kerasrnn.zoo.generation import generator

Tensor = Any

BLANK = "\u2581"
"""What SentencePiece writes for a blank."""

UNKNOWN = 1
"""The id of every symbol that a vectorizer does not know."""


class Translation(NamedTuple):
    """A text, and how it came about."""

    text: str
    symbols: list[str]
    """Of the text, without the end."""

    source: list[str]
    """The symbols that were read."""

    score: float
    """The sum of the symbols' log-probabilities, the end's included; of a beam, its score."""

    attention: Any
    """How much each symbol, the end included, looked at each of `source`: an array `(symbols + 1,
    len(source))`; a text that was cut off has no end. None without attention."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Translator(keras.Model):
    """An encoder-decoder that takes texts and gives texts.

    It holds the model of `zoo.encoder_decoder` that was trained on ids, and the layers that number
    the symbols of either side. Of a target vocabulary of n symbols, padding and unknown included,
    n is the end and n + 1 the start of a text: see `zoo.target_ids`, which makes what `fit` takes.

    It is saved, loaded and called like any Keras model: a call takes strings `(batch,)` and gives
    the greedy texts, strings `(batch,)`, on TensorFlow; `translate` does more.

    Args:
        model: of `zoo.encoder_decoder`, from Tokens to Classes of two more than the target's
            symbols.
        source: a built `keras.layers.TextVectorization` whose `split` is "whitespace" or
            "character", or a `kerasrnn.SentencePieceVectorization`.
        target: another one.
        max_length: the largest number of symbols of a text. None has more than twice as many as
            its source and ten, either, so that a search does not go on for nothing.

    Raises:
        ValueError: `model` has not as many classes; a vectorizer is none of these; `max_length` is
            no positive integer.

    Example: what an untrained model says of two words.

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

    def __init__(
        self,
        model: keras.Model,
        source: keras.layers.Layer,
        target: keras.layers.Layer,
        max_length: int = 100,
        **kwargs: Any,
    ) -> None:
        if not isinstance(max_length, Integral) or isinstance(max_length, bool) or max_length < 1:
            raise ValueError(f"max_length={max_length!r}: expected a positive integer.")
        for name, layer in (("source", source), ("target", target)):
            _check_vectorizer(name, layer)
        super().__init__(**kwargs)
        self.model = model
        self.source = source
        self.target = target
        self.max_length = int(max_length)
        self.symbols = target.get_vocabulary()
        self.end = len(self.symbols)
        self.start = self.end + 1
        classes = model.output_shape[-1]
        if classes != self.end + 2:
            raise ValueError(
                f"model has {classes} classes; expected {self.end + 2}: the target's {self.end} "
                "symbols, the end and the start."
            )
        # Hidden from Keras, which would save them: they have no weights of their own.
        self._writers = SimpleNamespace(known={})
        self._greedy = SimpleNamespace(model=self._generator())
        self.build()

    def build(self, input_shape: Any = None) -> None:
        self.built = True  # all that has weights was built before

    def call(self, inputs: Tensor) -> Tensor:
        """The greedy texts, strings `(batch,)`."""
        return self._texts(self._greedy.model, inputs)

    def _texts(self, write: keras.Model, inputs: Tensor) -> Tensor:
        """What a generator writes, as strings, in a graph."""
        import tensorflow as tf

        read = self.source(inputs)
        ids, *_ = write([read, self._longest(read)])
        said = tf.gather([*self.symbols, "", ""], ids)
        # Neither padding nor an end, nor a start in the middle, has a separator of its own.
        said = tf.where((ids > 0) & (ids < self.end), said + _separator(self.target), "")
        text = tf.strings.reduce_join(said, axis=-1)
        if isinstance(self.target, kerasrnn.SentencePieceVectorization):
            text = tf.strings.regex_replace(text, BLANK, " ")
        return tf.strings.strip(text)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0],), "string")

    def serving(self, beam: int = 1, length_penalty: float = 1.0) -> keras.Model:
        """A model from texts to texts, strings `(batch,)` both: what `kerasrnn.export` exports.

        It shares its layers with this one, and is not to be saved as a Keras model itself.

        Args:
            beam: number of hypotheses; 1: greedy.
            length_penalty: of a beam.
        """
        texts = keras.Input((), dtype="string", name="texts")
        return keras.Model(texts, _Serving(self, beam, length_penalty, name="translations")(texts))

    def writer(self, beam: int = 1, length_penalty: float = 1.0) -> keras.Model:
        """`serving` without texts: from the source's ids to those of what is written.

        Returns:
            A model from "source", int32 `(batch, time)`, to "sequences", int32 `(batch,
            max_length)`: the id that ends a text included, and 0 behind it; `text` reads a row.
        """
        ids = keras.Input((None,), dtype="int32", name="source")
        write = self._generator(None if beam == 1 else Beam(beam, length_penalty))
        sequences, *_ = write([ids, _Longest(self, name="longest")(ids)])
        return keras.Model(ids, keras.layers.Identity(name="sequences")(sequences))

    def text(self, ids: Sequence[int]) -> str:
        """The text of a row of ids, as `writer` gives it."""
        return joined(self.target, [self.symbols[n] for n in ids if 0 < n < self.end])

    def translate(
        self,
        texts: Sequence[str],
        beam: int = 1,
        length_penalty: float = 1.0,
        sampler: Strategy | None = None,
        copy_unknown: bool = False,
        batch_size: int = 64,
    ) -> list[str]:
        """What the texts become.

        Args:
            texts: of the source.
            beam: number of hypotheses; 1: greedy, each symbol the most probable one.
            length_penalty: of a beam; see `kerasrnn.decoding.Beam`.
            sampler: in place of a beam: `kerasrnn.decoding.Sample`, ...
            copy_unknown: whether an unknown word of the result becomes the source's word that was
                most attended to, as in Luong et al. (2015), "Addressing the rare word problem in
                neural machine translation"; with attention and words alone.
            batch_size: texts that are translated at once.

        Raises:
            ValueError: no texts, or an empty one; an argument is out of its range; `copy_unknown`
                without attention.
        """
        given = self.explain(texts, beam, length_penalty, sampler, copy_unknown, batch_size)
        return [translation.text for translation in given]

    def explain(
        self,
        texts: Sequence[str],
        beam: int = 1,
        length_penalty: float = 1.0,
        sampler: Strategy | None = None,
        copy_unknown: bool = False,
        batch_size: int = 64,
    ) -> list[Translation]:
        """`translate`, with what was read, the scores and the attention."""
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"texts={texts!r}: expected a list of texts.")
        attends = self._decoder().attention is not None
        if copy_unknown and not attends:
            raise ValueError("copy_unknown=True: the model has no attention to tell what to copy.")
        if sampler is not None and beam != 1:
            raise ValueError(f"beam={beam!r}: expected 1 with sampler={sampler!r}.")
        if beam != 1:
            sampler = Beam(beam, length_penalty)
        words = [tokens(self.source, text) for text in texts]
        for text, symbols in zip(texts, words, strict=True):
            if not symbols:
                raise ValueError(f"texts: {text!r} has nothing to translate; expected a symbol.")
        write = self._generator(sampler)
        found: list[Translation | None] = [None] * len(texts)
        # Texts of similar length together; their lengths rounded up, since each is compiled anew.
        order = sorted(range(len(texts)), key=lambda n: len(words[n]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids = self.source(ops.convert_to_tensor([texts[n] for n in rows]))
            ids = ops.pad(
                ids, ((0, batch_size - len(rows) if start else 0), (0, -ids.shape[1] % 8))
            )
            results = write.predict_on_batch([ids, self._longest(ids)])
            results = [ops.convert_to_numpy(x) for x in results]
            for k, n in enumerate(rows):
                of_row = [x[k] for x in results]
                found[n] = self._translation(words[n], copy_unknown, *of_row)
        return found

    def get_config(self) -> dict[str, Any]:
        parts = {}
        for name in ("model", "source", "target"):
            parts[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return {"name": self.name, **parts, "max_length": self.max_length}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Translator":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("model", "source", "target")
        }
        return cls(**{**config, **parts})

    def _longest(self, ids: Tensor) -> Tensor:
        """How many symbols each text may have."""
        read = ops.sum(ops.cast(ops.not_equal(ids, 0), "int32"), axis=1)
        return ops.minimum(2 * read + 10, self.max_length)

    def _decoder(self) -> kerasrnn.Decoder:
        return self.model.get_layer("decoder")

    def _generator(self, sampler: Strategy | None = None) -> keras.Model:
        """It shares its layers with the model: what the model learns later, it learns at once."""
        beam = isinstance(sampler, Beam)
        known, key = self._writers.known, repr(sampler)
        if key not in known:
            attends = self._decoder().attention is not None
            known[key] = generator(
                self.model,
                sampler,
                self.max_length,
                self.start,
                self.end,
                max_lengths=True,
                return_lengths=True,
                return_log_probabilities=True,
                return_scores=beam,
                return_attention=attends,
            )
            known[key].jit_compile = False  # each length would be compiled, for a few texts
        return known[key]

    def _translation(
        self, source: list[str], copy_unknown: bool, ids: Any, length: Any, *rest: Any
    ) -> Translation:
        attention = None
        if self._decoder().attention is not None:
            *rest, attention = rest
            attention = attention[:length, : len(source)]
        ids = [int(n) for n in ids[:length] if n < self.end]
        symbols = [self.symbols[n] for n in ids]
        if copy_unknown:
            for k, n in enumerate(ids):
                if n == UNKNOWN:
                    symbols[k] = source[attention[k].argmax()]
        score = rest[1] if len(rest) > 1 else rest[0].sum()  # of a beam, or log-probabilities
        return Translation(joined(self.target, symbols), symbols, source, float(score), attention)


class _Serving(keras.layers.Layer):
    """A translator's generator as a layer."""

    def __init__(self, translator: Translator, beam: int, penalty: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._convert_input_args = False
        self.translator = translator
        self.generator = translator._generator(None if beam == 1 else Beam(beam, penalty))

    def call(self, inputs: Tensor) -> Tensor:
        return self.translator._texts(self.generator, inputs)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0],), "string")


class _Longest(keras.layers.Layer):
    """How many symbols a translator's texts may have."""

    def __init__(self, translator: Translator, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.of = translator._longest

    def call(self, inputs: Tensor) -> Tensor:
        return self.of(inputs)


def target_ids(target: keras.layers.Layer, texts: Sequence[str]) -> tuple[Any, Any]:
    """What a decoder reads and foresees of target texts: `fit` takes it.

    Args:
        target: the vectorizer, as a `Translator` takes it.
        texts: of the target.

    Returns:
        `(previous, target)`: ids `(batch, time)` each, the first behind a start, the second before
        an end.

    Example:

        >>> import keras
        >>> from kerasrnn import zoo
        >>> sounds = keras.layers.TextVectorization(vocabulary=["AE", "B"], standardize=None)
        >>> previous, target = zoo.target_ids(sounds, ["B AE B", "B"])
        >>> previous.tolist(), target.tolist()
        ([[5, 3, 2, 3], [5, 3, 0, 0]], [[3, 2, 3, 4], [3, 4, 0, 0]])
    """
    ids = ops.convert_to_numpy(target(ops.convert_to_tensor(list(texts)))).astype("int32")
    ids = np.pad(ids, ((0, 0), (0, 1)))
    end = len(target.get_vocabulary())
    previous = np.insert(ids[:, :-1], 0, end + 1, axis=1)
    ids[np.arange(len(ids)), (ids > 0).sum(axis=1)] = end
    return previous, ids


def tokens(vectorizer: keras.layers.Layer, text: str) -> list[str]:
    """The symbols of a text, as a vectorizer cuts it."""
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return vectorizer.processor.encode(text, out_type=str)
    split, standardize = _rules(vectorizer)
    if standardize in ("lower", "lower_and_strip_punctuation"):
        text = text.lower()
    if standardize in ("strip_punctuation", "lower_and_strip_punctuation"):
        text = text.translate(str.maketrans("", "", string.punctuation))
    return list(text) if split == "character" else text.split()


def joined(vectorizer: keras.layers.Layer, symbols: Sequence[str]) -> str:
    """The text of symbols: what `tokens` has cut."""
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return "".join(symbols).replace(BLANK, " ").strip()
    return _separator(vectorizer).join(symbols)


def _separator(vectorizer: keras.layers.Layer) -> str:
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return ""
    return " " if _rules(vectorizer)[0] == "whitespace" else ""


def _rules(vectorizer: keras.layers.TextVectorization) -> tuple[Any, Any]:
    """How it cuts texts, and what it does to them before."""
    config = vectorizer.get_config()
    return config["split"], config["standardize"]


def _check_vectorizer(name: str, layer: Any) -> None:
    if isinstance(layer, kerasrnn.SentencePieceVectorization):
        return
    rules = _rules(layer) if isinstance(layer, keras.layers.TextVectorization) else (None, None)
    if rules[0] not in ("whitespace", "character"):
        raise ValueError(
            f"{name}={layer!r}: expected a TextVectorization whose split is 'whitespace' or "
            "'character', or a kerasrnn.SentencePieceVectorization."
        )
    if callable(rules[1]):
        raise ValueError(
            f"{name}: standardize={rules[1]!r}: expected one of Keras's names, or None."
        )
