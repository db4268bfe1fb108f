"""Subword tokenization with SentencePiece."""

import base64
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras

from kerasrnn.base_layer import BaseLayer
from kerasrnn.text.unigram import Unigram

Tensor = Any

_without_python: ContextVar[bool] = ContextVar("_without_python", default=False)


@contextmanager
def without_python() -> Iterator[None]:
    """Within this context, traced layers add TensorFlow operations to the graph: for exports."""
    token = _without_python.set(True)
    try:
        yield
    finally:
        _without_python.reset(token)


@keras.saving.register_keras_serializable(package="kerasrnn")
class SentencePieceVectorization(BaseLayer):
    """Converts texts to ids of subwords with a SentencePiece model, which is part of the layer.

    Kudo & Richardson (2018), "SentencePiece: a simple and language independent subword tokenizer
    and detokenizer". No text is entirely unknown: a rare word becomes several pieces. As in Keras's
    `TextVectorization`, 0 is padding and 1 is unknown (a character absent from the training text);
    the model must have been trained with these ids: see `train`.

    The layer runs on TensorFlow, in Python: in `tf.data` and in front of a model, saved with it. A
    SavedModel written by `kerasrnn.export.to_saved_model` contains a unigram model as TensorFlow
    operations (`kerasrnn.text.unigram`), and needs no Python. Requires the package sentencepiece,
    installed by the extra `pieces`.

    Args:
        model: the trained model, as the bytes of its file, plain or in base64.

    Call arguments:
        inputs: texts, strings `(batch,)` or `()`.

    Returns:
        ids, int32 `(batch, time)`, rows padded with zeros to the longest; `(time,)` for one text.

    Masking: outputs no mask; an `Embedding` with `mask_zero` derives it from the zeros.

    Raises:
        ValueError: `model` is not a SentencePiece model, or has other ids for padding and unknown.
        ModuleNotFoundError: sentencepiece is not installed.

    Example:

        >>> import kerasrnn
        >>> texts = ["the cat sat on the mat", "the hat of the cat"] * 20
        >>> layer = kerasrnn.SentencePieceVectorization.train(texts, size=16)
        >>> layer.decode(layer(["the mat"]).numpy()[0])
        'the mat'
    """

    def __init__(self, model: bytes | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # As in Keras's own text layers: strings must not be converted to numbers.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.model = model if isinstance(model, str) else base64.b64encode(model).decode("ascii")
        for number, meaning in ((self.processor.pad_id(), 0), (self.processor.unk_id(), 1)):
            if number != meaning:
                raise ValueError(
                    "model: expected padding to have the id 0 and unknown the id 1; see "
                    f"`SentencePieceVectorization.train`. Found {self.processor.pad_id()} and "
                    f"{self.processor.unk_id()}."
                )

    @classmethod
    def train(cls, texts: Any, size: int, kind: str = "unigram", **kwargs: Any) -> Any:
        """Train a new model and return its layer.

        Args:
            texts: an iterable of strings.
            size: number of ids, padding and unknown included.
            kind: "unigram" (Kudo 2018), "bpe" (Sennrich et al. 2016), "char" or "word".
            **kwargs: keyword arguments of the layer.

        Raises:
            ValueError: the texts have too few pieces for `size`.
        """
        import io

        import sentencepiece

        buffer = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=buffer,
                vocab_size=size,
                model_type=kind,
                pad_id=0,
                unk_id=1,
                bos_id=-1,
                eos_id=-1,
                num_threads=1,  # reproducible
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            raise ValueError(f"size={size}: {error}") from None
        return cls(buffer.getvalue(), **kwargs)

    @functools.cached_property
    def processor(self) -> Any:
        """The SentencePiece processor of the model."""
        import sentencepiece

        try:
            content = base64.b64decode(self.model, validate=True)
            return sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"model: expected a SentencePiece model; {error}") from None

    @functools.cached_property
    def _unigram(self) -> Unigram:
        model = Unigram(base64.b64decode(self.model))
        self._tables = [model.numbers, model.rule_numbers]  # tracked: a SavedModel needs them
        return model

    def get_vocabulary(self) -> list[str]:
        """The pieces, in the order of their ids."""
        return [self.processor.id_to_piece(n) for n in range(self.processor.get_piece_size())]

    def decode(self, ids: Any) -> str:
        """Convert one row of ids to text; padding is ignored."""
        return self.processor.decode([int(n) for n in ids if n > 0])

    def call(self, inputs: Tensor) -> Tensor:
        import tensorflow as tf

        inputs = tf.convert_to_tensor(inputs, tf.string)
        if _without_python.get():
            ids = self._unigram(tf.reshape(inputs, (-1,)))
            return ids if inputs.shape.rank else ids[0]
        ids = tf.numpy_function(self._encode, [inputs], tf.int32, stateful=False)
        return tf.ensure_shape(ids, [*inputs.shape, None])

    def compute_output_shape(self, inputs_shape: Any) -> tuple[int | None, ...]:
        return (*inputs_shape, None)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*inputs.shape, None), "int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": self.model}

    def _encode(self, texts: Any) -> Any:
        import numpy as np

        texts = np.asarray(texts, object)  # TensorFlow passes one text as bytes, or as an array
        if texts.ndim == 0:
            return np.array(self.processor.encode(texts.item().decode()), "int32")
        rows = self.processor.encode([text.decode() for text in texts.tolist()])
        ids = np.zeros((len(rows), max(map(len, rows), default=0)), "int32")
        for row, pieces in zip(ids, rows, strict=True):
            row[: len(pieces)] = pieces
        return ids
