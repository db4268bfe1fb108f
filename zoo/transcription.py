"""Transcription: from a sequence to labels of another length, without attention.

l_1        l_2   l_3                 head="ctc": each step writes a label or the blank
 |    -     |     |    -
[h] - [h] - [h] - [h] - [h]          head="transducer": each step writes any number of labels,
 |     |     |     |     |           given those before them
x_1   x_2   x_3   x_4   x_5

`transcriber` is the model; `Transcriber` has its symbols and features, too, and answers in texts.
"""

import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.keras_internals import nodes_of, producer_of
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import ArgumentError, PositiveInteger, Rate
from kerasrnn.wording import counted
from kerasrnn.zoo import reading
from kerasrnn.zoo.cells import CellLike, recurrent, recurrent_layers
from kerasrnn.zoo.ctc import CTC
from kerasrnn.zoo.inputs import Input, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import Classes, predictions
from kerasrnn.zoo.transducer import Transducer

Tensor = Any

ENCODER = "encoder"
STACKING = "stacking"
"""The names of the layers."""

MOST_SEARCHES = 16
"""Number of search models that a transcriber caches, one per configuration."""


@validation.checked
def transcriber(
    inputs: Input,
    outputs: Classes | CTC | Transducer,
    cell: CellLike = "lstm",
    head: Literal["ctc", "transducer"] = "ctc",
    units: PositiveInteger = 128,
    depth: PositiveInteger = 1,
    bidirectional: bool = False,
    subsampling: PositiveInteger = 1,
    prediction_units: PositiveInteger | None = None,
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    input_name: str = "sequence",
    labels_name: str = "labels",
    output_name: str | None = None,
    name: str = "transcriber",
    **options: Any,
) -> Model:
    """A recurrent network that writes labels of an unknown alignment: speech, handwriting, signals.

        f_1 ... f_S = RNN(D(x'_1) ... D(x'_S)),   x'_s = [x_{k(s-1)+1}, ..., x_{ks}]
        L = -log p(l_1 ... l_U | f_1 ... f_S)

    for `subsampling` k. Nothing says at which steps the labels are: p is a sum over all alignments,
    of connectionist temporal classification, where the labels of different steps are independent
    of each other (Graves et al. 2006), or of a transducer, where they depend on those before them,
    and there may be more labels than steps (Graves 2012). See `kerasrnn.losses.CTC` and
    `kerasrnn.Transducer`. A unidirectional model can transcribe while it listens.

    Args:
        inputs: `zoo.Vectors`, such as the features of speech, `Tokens`, or `Images` for a video; or
            several, `zoo.Inputs`.
        outputs: `zoo.Classes`: class 0 is the blank, which also pads the labels. Or a `zoo.CTC` or
            `zoo.Transducer`, with options of their own, for the head of this name.
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", ...), or a kerasrnn cell or
            layer class; of the encoder and of the prediction network.
        head: "ctc" or "transducer".
        units: number of units of each recurrent layer of the encoder.
        depth: number of stacked layers.
        bidirectional: whether the layers of the encoder are bidirectional.
        subsampling: how many adjacent frames are one step: see `kerasrnn.FrameStacking`. With CTC,
            a row still needs a step for each label.
        prediction_units: with a transducer, number of units of the prediction network and of the
            joiner. Default: `units`.
        dropout: dropout rate of the inputs, between the layers and before the output.
        recurrent_dropout: dropout rate of the recurrent state of the encoder.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        input_name: name of the input, in the model and in its exports.
        labels_name: name of the input of the labels, with a transducer.
        output_name: name of the output; default: "probabilities", or "moves" with a transducer.
        name: name of the model.
        **options: further arguments of the recurrent layers of the encoder: `jit_compile`, ...

    Returns:
        A `zoo.Model`. With CTC, from a sequence per row, `(batch, time, ...)`, to probabilities,
        `(batch, steps, count)`: `model.fit(x, labels)`. With a transducer, from `[sequence,
        labels]` to the log-probabilities of the moves, `(batch, steps, labels + 1, 2)`:
        `model.fit([x, labels], labels)`.

    Raises:
        ValueError: an argument is out of range, or `outputs` are not those of the head.

    Example: from 13 cepstral coefficients per frame to letters.

        >>> from kerasrnn import zoo
        >>> model = zoo.transcriber(
        ...     zoo.Vectors(13), zoo.Classes(28), "gru", "transducer", units=16, subsampling=3)
        >>> [x.name for x in model.inputs], zoo.decoded(model).output_shape
        (['sequence', 'labels'], (None, None))
    """
    check_inputs(inputs)
    if prediction_units is not None and head == "ctc":
        raise ValueError(f"prediction_units={prediction_units!r}: expected None with head='ctc'.")
    kind = {"ctc": CTC, "transducer": Transducer}[head]
    if isinstance(outputs, Classes):
        if head == "ctc":
            outputs = CTC(outputs.count)
        else:
            outputs = Transducer(outputs.count, cell, prediction_units or units, dropout)
    elif not isinstance(outputs, kind):
        raise ValueError(
            f"outputs={outputs!r}: expected zoo.Classes or zoo.{kind.__name__} for head={head!r}."
        )
    elif prediction_units is not None:
        raise ValueError(
            f"prediction_units={prediction_units!r}: expected None for {outputs!r}, which has its "
            "own."
        )
    source = inputs.input(input_name, steps=True)
    x = inputs.encode(source, steps=True)
    if subsampling > 1:
        x = kerasrnn.FrameStacking(subsampling, name=STACKING)(x)
    layers = recurrent_layers(
        cell, units, depth, bidirectional, dropout, recurrent_dropout, **options
    )
    encoder = recurrent(
        layers, dropout, residual, return_sequences=True, return_state=True, name=ENCODER
    )
    encoded, *_ = encoder(x)
    encoded = keras.layers.Dropout(dropout)(encoded)
    if head == "ctc":
        return Model(
            source, predictions(outputs, output_name, encoded), name=name, output_type=outputs
        )
    labels = keras.Input((None,), dtype="int32", name=labels_name)
    y = outputs.layer(output_name)(encoded, labels)
    return Model([*keras.tree.flatten(source), labels], y, name=name, output_type=outputs)


class Transcription(NamedTuple):
    """A text, with its symbols."""

    text: str
    symbols: list[str]

    times: list[int]
    """The frame of the input at which each symbol begins; with subsampling, the first of its step.
    Frames are those of the features, if the transcriber has any."""

    score: float
    """The log-probability: of the best path, or with a beam, of the symbols."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Transcriber(keras.Model):
    """A model of `zoo.transcriber` with its symbols, and where the input is sound, its features.

    It is saved, loaded and called like any Keras model. A call and `predict` take padded arrays and
    return the labels of the best path, ids padded with 0, which `text` reads; `transcribe` takes
    sequences of different lengths, and returns texts.

    Args:
        model: a model of `zoo.transcriber` with one input besides the labels.
        symbols: the symbols of the classes 1, 2, ...; class 0 is the blank.
        separator: what is written between two symbols: "" for characters, " " for words.
        features: a layer from waveforms, `(batch, samples)`, to the model's input, such as
            `kerasrnn.LogMel`; None: sequences are the model's input.

    Sequences are padded to batches with what is padding to the model, such as the `padding` of
    `zoo.Vectors`. To a model without such a value, only sequences of equal length are given
    together.

    To export it, export `reader()`: a functional model from arrays to ids.

    Raises:
        ValueError: the model is another one, or the number of its classes differs from that of the
            symbols and the blank.

    Example: an untrained model.

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> model = zoo.transcriber(zoo.Vectors(3), zoo.Classes(4), "gru", "transducer", units=8)
        >>> transcriber = zoo.Transcriber(model, list("abc"))
        >>> transcriber.labels(["cab", "a"]).tolist()          # for model.fit([x, y], y)
        [[3, 1, 2], [1, 0, 0]]
        >>> random = np.random.default_rng(0)
        >>> sequences = [random.normal(size=(5, 3)), random.normal(size=(9, 3))]
        >>> texts = transcriber.transcribe(sequences, beam=4)
        >>> stream = transcriber.stream()
        >>> for chunk in np.split(sequences[1], 3):
        ...     text = stream.read(chunk)
        >>> stream.finish().text == transcriber.transcribe(sequences)[1]
        True
    """

    @validation.checked
    def __init__(
        self,
        model: keras.Model,
        symbols: Sequence[str],
        separator: str = "",
        features: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        output_type = getattr(model, "output_type", None)
        if not isinstance(output_type, (CTC, Transducer)):
            raise ValueError(f"model={model.name!r}: expected a model of zoo.transcriber.")
        is_transducer = isinstance(output_type, Transducer)
        if len(model.inputs) != 1 + is_transducer:
            raise ValueError(
                f"model={model.name!r}: has {counted(len(model.inputs), 'input')}; expected "
                f"{1 + is_transducer}: a sequence{' and its labels' if is_transducer else ''}."
            )
        if isinstance(symbols, (str, bytes)):
            raise ArgumentError("symbols", symbols, "a list of strings")
        symbols = [
            validation.string(f"symbols[{n}]", symbol)
            for n, symbol in enumerate(validation.sequence("symbols", symbols))
        ]
        twice = next((symbol for symbol in symbols if symbols.count(symbol) > 1), None)
        if twice is not None:
            raise ValueError(f"symbols: {twice!r} occurs more than once; expected each once.")
        if output_type.count != len(symbols) + 1:
            raise ValueError(
                f"model has {output_type.count} classes; expected {len(symbols) + 1}: the blank "
                f"and {counted(len(symbols), 'symbol')}."
            )
        if features is not None and not isinstance(features, keras.layers.Layer):
            raise ArgumentError("features", features, "a Keras layer", "None")
        super().__init__(**kwargs)
        self.model = model
        self.symbols = symbols
        self.separator = separator
        self.features = features
        self.is_transducer = is_transducer
        # Hidden from Keras, which would save them although they have no separate weights.
        self._models = SimpleNamespace(searches={}, streams={}, chunks=None)
        self._greedy = SimpleNamespace(model=self.reader())
        self.build()

    def build(self, input_shape: Any = None) -> None:
        self.built = True  # all layers with weights were built before

    def call(self, inputs: Tensor) -> Tensor:
        """The labels of the best path, ids padded with 0."""
        return self._greedy.model(inputs)

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> Any:
        return self._greedy.model.predict(x, batch_size, **kwargs)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], None), "int32")

    @validation.checked
    def transcribe(
        self,
        sequences: Sequence[Any],
        beam: PositiveInteger = 1,
        n_best: PositiveInteger | None = None,
        batch_size: PositiveInteger = 32,
        **options: Any,
    ) -> list[str] | list[list[str]]:
        """The texts of sequences.

        Args:
            sequences: arrays of any length: waveforms `(samples,)` with features, otherwise inputs
                of the model, `(time, features)`.
            beam: width of the search; 1: the best path.
            n_best: maximum number of texts for each sequence, the best first; returns lists of
                lists. Requires a beam that is at least as wide.
            batch_size: number of sequences per batch.
            **options: further arguments of the decoder: `kerasrnn.decoding.CTCGreedy` or, with a
                beam, `CTCBeam`; `TransducerGreedy` or `TransducerBeam`. The words of a `word_list`
                and its `separator` may be texts: `word_list=["a", "cab"], separator=" "`.

        Raises:
            ValueError: a sequence has another shape, no steps, or numbers that are not finite;
                waveforms are integers; the decoder does not have an option.
        """
        rows = self.explain(sequences, beam, n_best, batch_size, **options)
        if n_best is None:
            return [row.text for row in rows]
        return [[each.text for each in row] for row in rows]

    @validation.checked
    def explain(
        self,
        sequences: Sequence[Any],
        beam: PositiveInteger = 1,
        n_best: PositiveInteger | None = None,
        batch_size: PositiveInteger = 32,
        **options: Any,
    ) -> list[Transcription] | list[list[Transcription]]:
        """Like `transcribe`, but with symbols, times and scores."""
        if isinstance(sequences, (str, bytes)) or not np.iterable(sequences):
            raise ArgumentError("sequences", sequences, "a list of arrays")
        rows = [self._frames(f"sequences[{n}]", x) for n, x in enumerate(sequences)]
        search = self._search(beam, n_best, options)
        padding = self._padding()
        results: list[Any] = [None] * len(rows)
        # Batch sequences of similar length.
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
        while order:
            length = len(rows[order[0]])
            batch = [n for n in order[:batch_size] if padding is not None or len(rows[n]) == length]
            order = [n for n in order if n not in batch]
            x = _padded([rows[n] for n in batch], padding, batch_size)
            found = [ops.convert_to_numpy(y) for y in search.predict_on_batch(x)]
            for row, n in enumerate(batch):
                results[n] = self._transcriptions([y[row] for y in found])
        return results

    @validation.checked
    def stream(self, beam: PositiveInteger = 1, **options: Any) -> "Stream":
        """Transcribe one sequence that arrives in chunks: see `Stream`.

        Args:
            beam: see `transcribe`.
            **options: see `transcribe`.

        Raises:
            ValueError: the model is bidirectional, or the features depend on the whole sequence.
        """
        return Stream(self, beam, options)

    @validation.checked
    def reader(self, beam: PositiveInteger = 1, **options: Any) -> Model:
        """A functional model from sequences to the labels, for `kerasrnn.export`.

        It shares its layers with this one. Its input is that of the model, or with features
        "waveforms", `(batch, samples)`, of equal lengths. Its output is "labels", int32 `(batch,
        n)`, padded with 0, which `text` reads.

        Args:
            beam: see `transcribe`.
            **options: see `transcribe`.
        """
        source = self.model.inputs[0]
        search = self._search(beam, None, options)
        if self.features is None:
            labels = search.outputs[0]
        else:
            source = keras.Input((None,), name="waveforms")
            labels = search(self.features(source))[0]
        labels = keras.layers.Identity(dtype="int32", name="labels")(labels)
        reader = Model(source, labels, name=f"{self.model.name}_reader")
        reader.jit_compile = False
        return reader

    def text(self, ids: Sequence[int]) -> str:
        """The text of a row of labels, as `reader` returns it.

        Raises:
            ValueError: `ids` are several rows, or not labels of this transcriber.
        """
        if np.ndim(ids) != 1:
            raise ValueError(
                f"ids of the shape {np.shape(ids)}: expected one row of labels, (n,); of several, "
                "[transcriber.text(row) for row in ids]."
            )
        row = np.asarray(ops.convert_to_numpy(ids) if ops.is_tensor(ids) else ids)
        if row.size:
            validation.integers("ids", validation.numbers("ids", row), -1, len(self.symbols))
        return self.separator.join(self._symbols(row.astype("int32")))

    def labels(self, texts: Sequence[str]) -> np.ndarray:
        """The labels of texts, for `fit`: ids `(texts, longest)`, padded with 0.

        Raises:
            ValueError: a text contains what is not a symbol; or the separator is empty, and a
                symbol has several characters.
        """
        rows = [
            self._ids(f"texts[{n}]", text)
            for n, text in enumerate(reading.as_texts("texts", texts))
        ]
        ids = np.zeros((len(rows), max(1, *map(len, rows))), "int32")
        for row, of_text in zip(ids, rows, strict=True):
            row[: len(of_text)] = of_text
        return ids

    @property
    def subsampling(self) -> int:
        """The number of frames of a step."""
        layers = [layer for layer in self.model.layers if layer.name == STACKING]
        return layers[0].count if layers else 1

    def _ids(self, name: str, text: str) -> list[int]:
        """The labels of a text."""
        if not self.separator and any(len(symbol) != 1 for symbol in self.symbols):
            raise ValueError(
                "separator='': symbols of several characters cannot be found in texts; expected "
                "symbols of one character, or another separator."
            )
        known = {symbol: n + 1 for n, symbol in enumerate(self.symbols)}
        parts = text.split(self.separator) if self.separator and text else list(text)
        wrong = next((symbol for symbol in parts if symbol not in known), None)
        if wrong is not None:
            raise ValueError(f"{name}={text!r}: {wrong!r} is not one of the symbols.")
        return [known[symbol] for symbol in parts]

    def _symbols(self, ids: Any) -> list[str]:
        return [self.symbols[n - 1] for n in ids if n > 0]

    def _frames(self, name: str, sequence: Any) -> np.ndarray:
        """A sequence as the model's input, `(time, ...)`."""
        like = self.model.inputs[0]
        if self.features is not None:
            samples = _samples(name, sequence)
            waveforms = ops.convert_to_tensor(samples[None].astype("float32"))
            return ops.convert_to_numpy(self.features(waveforms))[0]
        frames = validation.numbers(name, sequence)
        fits = frames.ndim == len(like.shape) - 1 and all(
            expected in (None, size)
            for expected, size in zip(like.shape[2:], frames.shape[1:], strict=True)
        )
        if not fits or not len(frames):
            sizes = ", ".join(["time", *map(str, like.shape[2:])])
            raise ValueError(f"{name} has the shape {frames.shape}: expected ({sizes}).")
        validation.finite(name, frames, "float32", ["step"])
        return frames

    def _padding(self) -> float | None:
        """The value of a frame that is padding to the model; None if there is none."""
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Masking):
                return layer.mask_value
            if isinstance(layer, keras.layers.Embedding) and layer.mask_zero:
                return 0
            if isinstance(layer, kerasrnn.BatchedTimeDistributed):
                return layer.padding
        return None

    def _encoded(self) -> tuple[keras.layers.Layer, Tensor]:
        """The output layer, and what it reads of each step."""
        head, (arguments, _) = producer_of(self.model.output)
        return head, arguments[0]

    def _decoder(
        self, beam: int, n_best: int | None, options: dict[str, Any]
    ) -> keras.layers.Layer:
        ours: dict[str, Any] = {"return_lengths": True, "return_scores": True, "return_times": True}
        if n_best is not None and validation.positive_integer("n_best", n_best) > beam:
            raise ValueError(f"n_best={n_best}: expected at most {beam}, the width of the beam.")
        kind = "Greedy"
        if beam > 1 or n_best is not None:
            ours |= {"width": beam, "n_best": n_best}
            kind = "Beam"
        name = f"{'Transducer' if self.is_transducer else 'CTC'}{kind}"
        cls = getattr(kerasrnn.decoding, name)
        fixed = {"head", "blank", "from_logits", "kwargs", *ours}
        theirs = sorted(inspect.signature(cls).parameters.keys() - fixed)
        for option in (name for name in options if name not in theirs):
            raise ValueError(
                f"{option}={options[option]!r}: not an option of {name}, the decoder with "
                f"beam={beam}; expected {', '.join(theirs) or 'no options'}."
            )
        arguments = {**self._of_texts(options), **ours, "name": "search"}
        return cls(self._encoded()[0], **arguments) if self.is_transducer else cls(**arguments)

    def _of_texts(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a decoder, with the ids of what is given as texts."""
        options = dict(options)
        words, separator = options.get("word_list"), options.get("separator")
        if isinstance(words, (str, bytes)):
            raise ArgumentError("word_list", words, "a list of words")
        if words is not None:
            options["word_list"] = [
                self._ids(f"word_list[{n}]", word) if isinstance(word, str) else word
                for n, word in enumerate(words)
            ]
        if isinstance(separator, str):
            if separator not in self.symbols:
                raise ArgumentError("separator", separator, "one of the symbols", "an id")
            options["separator"] = self.symbols.index(separator) + 1
        return options

    def _search(self, beam: int, n_best: int | None, options: dict[str, Any]) -> Model:
        """A model from the frames to labels, lengths, scores and times."""
        key, known = _key(beam, n_best, options), self._models.searches
        if key not in known:
            decoder = self._decoder(beam, n_best, options)
            y = self._encoded()[1] if self.is_transducer else self.model.output
            search = Model(self.model.inputs[0], list(decoder(y)), name="search")
            search.jit_compile = False
            while len(known) >= MOST_SEARCHES:
                known.pop(next(iter(known)))
            known[key] = (search, options)  # their ids are those of living objects
        return known[key][0]

    def _chunks(self) -> tuple[keras.Model, list[np.ndarray]]:
        """A model from frames and states to outputs, their mask and new states; and the states at
        the start of one sequence."""
        if self._models.chunks is None:
            encoder = self.model.get_layer(ENCODER)
            initial = [ops.convert_to_numpy(s) for s in encoder.get_initial_state(1)]
            states = [
                keras.Input(s.shape[1:], dtype=str(s.dtype), name=f"state_{n}")
                for n, s in enumerate(initial)
            ]
            y, *after = encoder(nodes_of(encoder)[0].input_tensors[0], initial_state=states)
            if not self.is_transducer:
                y = self._encoded()[0](y)
            outputs = [y, _Used(name="used")(y), *after]
            model = keras.Model([self.model.inputs[0], *states], outputs, name="chunks")
            model.jit_compile = False
            self._models.chunks = (model, initial)
        return self._models.chunks

    def _advancing(
        self, beam: int, options: dict[str, Any]
    ) -> tuple[keras.layers.Layer, Callable[..., Any]]:
        """The decoder of a stream, and a compiled function of frames, their mask and its state."""
        key, known = _key(beam, None, options), self._models.streams
        if key not in known:
            decoder = self._decoder(beam, None, options)

            def advanced(y: Tensor, used: Tensor, state: Any) -> Any:
                return decoder.advance(y, state, used)

            while len(known) >= MOST_SEARCHES:
                known.pop(next(iter(known)))
            known[key] = (decoder, _compiled(advanced), options)
        return known[key][:2]

    def _transcriptions(self, found: list[np.ndarray]) -> Any:
        """The result for one sequence: a transcription, or a list of them."""
        labels, lengths, scores, times = found
        if labels.ndim == 1:
            return self._transcription(labels, int(lengths), float(scores), times)
        return [
            self._transcription(labels[n], int(lengths[n]), float(scores[n]), times[n])
            for n in range(len(labels))
            if scores[n] > NEVER / 2
        ]

    def _transcription(
        self, labels: np.ndarray, length: int, score: float, times: np.ndarray
    ) -> Transcription:
        symbols = self._symbols(labels[:length])
        frames = (self.subsampling * times[:length]).tolist()
        return Transcription(self.separator.join(symbols), symbols, frames, score)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            "symbols": self.symbols,
            "separator": self.separator,
            "features": keras.saving.serialize_keras_object(self.features),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Transcriber":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("model", "features")
        }
        return cls(**{**config, **parts})


class Stream:
    """The transcription of one sequence that arrives in chunks.

    The result is that of the whole sequence at once. States of the encoder and of the search are
    carried from chunk to chunk; what is left of a window of the features or of a step of several
    frames waits for the next chunk. With CTC, the search begins again at each chunk.

    Args:
        transcriber: see `Transcriber.stream`.
        beam: see `Transcriber.transcribe`.
        options: see `Transcriber.transcribe`.
    """

    def __init__(self, transcriber: Transcriber, beam: int, options: dict[str, Any]) -> None:
        self.transcriber = transcriber
        self.windows = None if transcriber.features is None else _windows(transcriber.features)
        self.decoder, self.advanced = transcriber._advancing(beam, options)
        self.model, states = transcriber._chunks()
        self.states = list(states)
        self.samples = np.zeros(0, "float32")
        self.frames: np.ndarray | None = None
        self.search = self.decoder.initial_state(1) if transcriber.is_transducer else None
        self.outputs: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.finished = False

    def read(self, chunk: Any) -> str:
        """Read the next samples or frames, and return the text so far.

        Args:
            chunk: `(samples,)` or `(time, ...)`, of any length.

        Raises:
            ValueError: the chunk has another shape, or the stream is finished.
        """
        if self.finished:
            raise ValueError("chunk: the stream is finished; expected another stream.")
        if 0 in np.shape(chunk)[:1]:
            return self._found().text
        if self.windows is None:
            self._push(self.transcriber._frames("chunk", chunk))
        else:
            samples = _samples("chunk", chunk).astype("float32")
            self.samples = np.concatenate([self.samples, samples])
            length, step = self.windows
            if len(self.samples) >= length:
                count = 1 + (len(self.samples) - length) // step
                whole = self.samples[: (count - 1) * step + length]
                self._push(self.transcriber._frames("chunk", whole))
                self.samples = self.samples[count * step :]
        return self._found().text

    def finish(self) -> Transcription:
        """The transcription of the whole sequence, including what has been waiting."""
        if not self.finished and self.frames is not None and len(self.frames):
            self._advance(self.frames)
        self.finished = True
        return self._found()

    def _push(self, frames: np.ndarray) -> None:
        if self.frames is not None:
            frames = np.concatenate([self.frames, frames])
        ready = len(frames) - len(frames) % self.transcriber.subsampling
        self.frames = frames[ready:]
        if ready:
            self._advance(frames[:ready])

    def _advance(self, frames: np.ndarray) -> None:
        results = self.model.predict_on_batch([frames[None], *self.states])
        y, used, *self.states = (ops.convert_to_numpy(x) for x in results)
        if self.search is not None:
            state = self.search._replace(history=())  # the function is traced once
            after = self.advanced(*map(ops.convert_to_tensor, (y, used)), state)
            self.search = after._replace(history=(*self.search.history, *after.history))
        else:
            self.outputs.append(y)
            self.masks.append(used)

    def _found(self) -> Transcription:
        if self.search is not None:
            if not self.search.history:
                return Transcription("", [], [], 0.0)
            found = self.decoder.found(self.search)
        else:
            if not self.outputs:
                return Transcription("", [], [], 0.0)
            mask = np.concatenate(self.masks, axis=1)
            found = self.decoder(np.concatenate(self.outputs, axis=1), mask=mask)
        return self.transcriber._transcriptions([ops.convert_to_numpy(x)[0] for x in found])


@keras.saving.register_keras_serializable(package="kerasrnn")
class _Used(BaseLayer):
    """Which steps are in use, boolean `(batch, time)`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return ops.ones(ops.shape(x)[:2], dtype="bool") if mask is None else ops.copy(mask)

    def compute_output_spec(self, x: Any, mask: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape[:2], "bool")

    def compute_mask(self, x: Any, mask: Any = None) -> None:
        """It has no mask itself."""


def _samples(name: str, waveform: Any) -> np.ndarray:
    """The samples of a waveform."""
    samples = validation.numbers(name, waveform)
    if samples.ndim != 1:
        raise ValueError(f"{name} has the shape {samples.shape}: expected a waveform, (samples,).")
    if samples.dtype.kind in "biu":
        raise ValueError(
            f"{name} is of {samples.dtype}: expected a waveform of floating-point numbers; divide "
            "samples of 16 bits by 32768."
        )
    validation.finite(name, samples, "float32", ["sample"])
    return samples


def _key(beam: int, n_best: int | None, options: dict[str, Any]) -> tuple[Any, ...]:
    """A cache key of a decoder."""
    return (beam, n_best, *((name, _frozen(options[name])) for name in sorted(options)))


def _frozen(value: Any) -> Any:
    """What an option is now: lists may change afterwards."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    simple = value is None or isinstance(value, (bool, int, float, str))
    return (type(value), value) if simple else id(value)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return tf.function(function, autograph=False, reduce_retracing=True)
        case "jax":
            import jax

            return jax.jit(function)
    return function


def _windows(features: keras.layers.Layer) -> tuple[int, int]:
    """The length and the step of the windows of features that depend on nothing else.

    Raises:
        ValueError: they depend on more, or on what is unknown.
    """
    if isinstance(features, (kerasrnn.LogMel, kerasrnn.MFCC)):
        reasons = [
            f"{name}={getattr(features, name)!r}"
            for name in ("center", "top_db", "deltas", "normalization")
            if getattr(features, name)
        ]
        if not reasons:
            return features.frame_length, features.frame_step
        raise ValueError(
            f"features: {', '.join(reasons)} of {features.name} depends on the whole sequence or "
            "on later samples; expected a kerasrnn.LogMel or MFCC without them in a stream."
        )
    raise ValueError(
        f"features: {features.name} is a {type(features).__name__}; expected a kerasrnn.LogMel or "
        "MFCC in a stream. Give another layer's results to a transcriber without features."
    )


def _padded(rows: list[np.ndarray], padding: float | None, batch_size: int) -> np.ndarray:
    """The rows as one array; where shapes are compiled, of one of few shapes."""
    count, steps = len(rows), max(map(len, rows))
    if padding is not None and keras.backend.backend() == "jax":
        count = min(1 << (count - 1).bit_length(), batch_size)
        step = max(8, 2 ** (steps.bit_length() - 3))
        steps = -(-steps // step) * step  # a multiple of 8, or up to a quarter more
    x = np.full((count, steps, *rows[0].shape[1:]), padding or 0, rows[0].dtype)
    for row, frames in zip(x, rows, strict=False):
        row[: len(frames)] = frames
    return x
