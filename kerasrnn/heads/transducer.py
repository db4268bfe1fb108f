"""Transducers: Graves (2012), "Sequence transduction with recurrent neural networks"."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask, check_steps, fits
from kerasrnn.cells.rnn import RNN
from kerasrnn.decoding.alignment import left_aligned
from kerasrnn.heads import joiner
from kerasrnn.keras_internals import get_keras_mask, is_concrete, set_keras_mask
from kerasrnn.layers.parts import as_layers
from kerasrnn.layers.stacked import StackedRNN
from kerasrnn.validation import PositiveInteger, Rate, Seed

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class Transducer(SequenceLayer):
    """A transducer: labels without an alignment, each given the frames and the labels before it.

        g_0, g_1, ..., g_U = RNN(e_0, e_{y_1}, ..., e_{y_U})        the prediction network
        z_tu = tanh(f_t W + g_u P + b)                              the joiner
        p(k | t, u) = softmax_k(z_tu V + c)

    for the outputs f_1 ... f_T of an encoder and the embeddings e of the labels; e_0 is that of the
    start. p(k | t, u) is the probability of label k, or of the blank, class 0, which leads to the
    next frame, once t frames are read and u labels are written: see `kerasrnn.losses.Transducer`.
    In connectionist temporal classification, the labels of different frames are independent of each
    other; here the prediction network is a language model of the labels, trained with the encoder
    (Graves 2012, "Sequence transduction with recurrent neural networks"; the joiner is that of
    Graves, Mohamed & Hinton 2013, "Speech recognition with deep recurrent neural networks").

    A call returns the log-probabilities of the two moves at each node of the lattice of frames and
    labels: of the blank, and of the label that is next. Those of all classes are computed frame by
    frame, and again for the gradient. So the memory of training does not grow with the product of
    frames, labels and classes. On PyTorch, where the gradient is automatic, it does.

    To read labels from frames, use `kerasrnn.decoding.TransducerGreedy` and `TransducerBeam`.

    Args:
        classes: number of classes, including the blank, class 0, which also pads the labels.
        layers: new unidirectional `kerasrnn.RNN` layers (any kerasrnn recurrent layers) of the
            prediction network, from the bottom up. Their configuration is copied.
        units: size of z. Default: the units of the last layer.
        embedding_units: size of the embeddings. Default: the units of the first layer.
        dropout: fraction to drop in training, in [0, 1): of embeddings, between layers, and of the
            joiner's inputs.
        seed: integer that makes dropout reproducible.

    Call arguments:
        encoded: f, `(batch, time, features)`.
        labels: y, ids `(batch, labels)`; 0 and negative ids are padding, at any position.
        mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to f.
        training: whether dropout is applied.

    Returns:
        `(batch, time, labels + 1, 2)`, float32: log p(0 | t, u) and log p(y_{u+1} | t, u). What is
        beyond the labels of a row has no meaning, and no influence on the loss.

    Masking: the mask of the frames is passed on, so the loss skips masked frames, at any position.

    Raises:
        ValueError: an argument is out of its range; a layer is bidirectional or stateful; the
            shapes do not match; a label is known not to be a class.

    Example:

        >>> import keras, kerasrnn
        >>> x = keras.Input((None, 13))
        >>> labels = keras.Input((None,), dtype="int32")
        >>> encoded = kerasrnn.LSTM(16, return_sequences=True)(keras.layers.Masking()(x))
        >>> transducer = kerasrnn.Transducer(28, [kerasrnn.LSTM(16)])
        >>> model = keras.Model([x, labels], transducer(encoded, labels))
        >>> model.compile("adam", kerasrnn.losses.Transducer())      # model.fit([x, y], y)
        >>> reader = keras.Model(x, kerasrnn.decoding.TransducerGreedy(transducer)(encoded))
        >>> model.output_shape
        (None, None, None, 2)
    """

    @validation.checked
    def __init__(
        self,
        classes: PositiveInteger,
        layers: Sequence[RNN],
        units: PositiveInteger | None = None,
        embedding_units: PositiveInteger | None = None,
        dropout: Rate = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        validation.integer("classes", classes, minimum=2)
        layers = as_layers(layers)
        for layer in layers:
            if not isinstance(layer, RNN) or layer.stateful:
                raise ValueError(
                    f"layers: {layer!r}: expected unidirectional recurrent layers of kerasrnn, "
                    "with stateful=False."
                )
        super().__init__(**kwargs)
        self.classes = classes
        self.units = units
        self.embedding_units = embedding_units
        self.dropout = dropout
        self.seed = seed
        self.stack = StackedRNN(
            layers,
            dropout=dropout,
            return_sequences=True,
            seed=seed,
            dtype=self.dtype_policy,
            name="prediction",
        )
        width_of = [layer.compute_output_shape((None, None, 1))[-1] for layer in self.stack.layers]
        self.embedding = keras.layers.Embedding(
            classes, embedding_units or width_of[0], dtype=self.dtype_policy, name="embedding"
        )
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        width = units or width_of[-1]
        self.of_frames = self._dense(width, "of_frames")
        self.of_labels = self._dense(width, "of_labels", use_bias=False)
        self.readout = self._dense(classes, "readout")
        self.supports_masking = True

    def _dense(self, units: int, name: str, **options: Any) -> keras.layers.Layer:
        return keras.layers.Dense(units, dtype=self.dtype_policy, name=name, **options)

    def build(self, encoded_shape: Any, labels_shape: Any = None) -> None:
        self.embedding.build((None, None))
        self.stack.build((None, None, self.embedding.output_dim))
        self.of_frames.build((None, None, encoded_shape[-1]))
        self.of_labels.build(self.stack.compute_output_shape((None, None, 1)))
        self.readout.build((None, self.of_frames.units))
        self.built = True

    def call(
        self,
        encoded: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        training: bool | None = False,
    ) -> Tensor:
        frames, outputs, ids, mask = self._inputs(encoded, labels, mask, training)
        weights = [self._weight(w) for w in (self.readout.kernel, self.readout.bias)]
        y = joiner.moves(frames, outputs, *weights, ids)
        if mask is not None:
            set_keras_mask(y, mask)
        return y

    def log_probabilities(
        self, encoded: Tensor, labels: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Those of all classes at each node, `(batch, time, labels + 1, classes)`, float32.

        Args:
            encoded: see `call`.
            labels: see `call`.
            mask: see `call`.
        """
        frames, outputs, *_ = self._inputs(encoded, labels, mask, False)
        return self._scores(ops.expand_dims(frames, 2), ops.expand_dims(outputs, 1))

    # Step by step, as decoders read labels.

    def project(self, encoded: Tensor) -> Tensor:
        """What the joiner reads of each frame, `(batch, time, units)`: f_t W + b."""
        return self.of_frames(self.in_compute_dtype(encoded))

    def initial_state(self, rows: Any) -> tuple[Tensor, list[Tensor]]:
        """The state before the first label: g_0 P, and the states of the layers.

        Args:
            rows: number of rows.

        Raises:
            ValueError: the layer is not built.
        """
        if not self.built:
            raise ValueError(f"{self.name}: is not built; expected a layer that has been called.")
        start = ops.zeros((rows,), dtype="int32")
        return self.step(start, (None, self.stack.get_initial_state(rows)))

    def step(self, labels: Tensor, state: tuple[Any, list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """The state after a label of each row, int32 `(rows,)`."""
        g, states = self.stack.step(self.embedding(labels), state[1])
        return self.of_labels(g), states

    def log_p(self, frames: Tensor, state: tuple[Tensor, Any]) -> Tensor:
        """log p(k | t, u), float32 `(rows, classes)`.

        Args:
            frames: a projected frame of each row, `(rows, units)`.
            state: from `initial_state` or `step`.
        """
        return self._scores(frames, state[0])

    def _scores(self, frames: Tensor, outputs: Tensor) -> Tensor:
        logits = self.readout(ops.tanh(frames + outputs))
        return ops.log_softmax(ops.cast(logits, "float32"), axis=-1)

    def _inputs(
        self, encoded: Tensor, labels: Tensor, mask: Tensor | None, training: bool | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What the joiner reads of frames and labels, the labels, and the mask."""
        mask = get_keras_mask(encoded) if mask is None else mask
        encoded = self.in_compute_dtype(encoded)
        check_steps(f"{self.name}: encoded", encoded)
        ids = validation.ids(f"{self.name}: labels", labels)
        if len(ids.shape) != 2 or not fits(ids.shape[:1], encoded.shape[:1]):
            raise ValueError(
                f"{self.name}: labels of the shape {tuple(ids.shape)}: expected ids (batch, "
                f"labels), for encoded of the shape {tuple(encoded.shape)}."
            )
        values = validation.known(ids) if is_concrete(ids) else None
        if values is not None and values.size and values.max() >= self.classes:
            raise ValueError(
                f"{self.name}: labels: expected ids from 0 to {self.classes - 1}; found "
                f"{values.max()}."
            )
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, encoded.shape[:2], used="a frame is")
            encoded = ops.where(ops.expand_dims(mask, 2), encoded, 0)  # even NaN
        (ids,), _ = left_aligned(ids > 0, [ids], [0])
        ids = ops.pad(ids, ((0, 0), (0, 1)))  # the next label of each node
        read = ops.pad(ids[:, :-1], ((0, 0), (1, 0)))  # after the start, class 0
        g = self.stack(
            self.dropout_layer(self.embedding(read), training=training), training=training
        )
        frames = self.of_frames(self.dropout_layer(encoded, training=training))
        return frames, self.of_labels(self.dropout_layer(g, training=training)), ids, mask

    def _weight(self, weight: Any) -> Tensor:
        return ops.cast(ops.convert_to_tensor(weight), self.compute_dtype)

    def compute_output_spec(
        self, encoded: Any, labels: Any, mask: Any = None, training: Any = None
    ) -> keras.KerasTensor:
        self._check_spec(encoded, labels)
        width = None if labels.shape[1] is None else labels.shape[1] + 1
        return keras.KerasTensor((*encoded.shape[:2], width, 2), "float32")

    def _check_spec(self, encoded: Any, labels: Any) -> None:
        if len(encoded.shape) != 3 or len(labels.shape) != 2:
            raise ValueError(
                f"{self.name}: encoded of the shape {tuple(encoded.shape)} and labels of the shape "
                f"{tuple(labels.shape)}: expected (batch, time, features) and (batch, labels)."
            )

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return mask

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classes": self.classes,
            "layers": self.stack.get_config()["layers"],
            "units": self.units,
            "embedding_units": self.embedding_units,
            "dropout": self.dropout,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Transducer":
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})
