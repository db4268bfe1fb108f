"""The model class of the zoo, which validates data before Keras reads it."""

import math
import types
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.base_layer import fits
from kerasrnn.keras_internals import nodes_of, operation_of
from kerasrnn.losses.weights import is_concrete
from kerasrnn.validation import ArgumentError
from kerasrnn.zoo import reading

Tensor = Any

OF_TEXTS = "keras.layers.TextVectorization makes ids of texts."
OF_LABELS = "names, ids = np.unique(labels, return_inverse=True) makes ids of labels."
OF_BATCHES = ("tensorflow.python.", "torch.utils.data", "grain.")


@keras.saving.register_keras_serializable(package="kerasrnn")
class Model(keras.Model):
    """A functional model that validates its data.

    All functions of the zoo return one, and so does `zoo.load`. It trains, predicts, saves and
    exports like any `keras.Model` with the same inputs and outputs.

    Inputs are arrays or tensors; pandas Series and DataFrames; lists and tuples of rows of equal
    length. Numbers must be finite. Ids are integers, or integral floats, in the range of the
    embedding. Texts are any one-dimensional collection of strings. For several inputs, pass a list
    or a dict by name. Targets and weights are finite numbers with as many rows as the inputs.

    A call, `fit`, `evaluate`, `predict`, `train_on_batch`, `test_on_batch` and `predict_on_batch`
    validate their data before any computation. Tensors passed to a call or as a batch are not
    validated, nor is data that comes in batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a
    torch `DataLoader`, a generator of batches. `predict` of a text model accepts a generator of
    texts. For all kinds of data, `fit` warns at the end of the first epoch whose loss is not
    finite.

    Args:
        inputs: see `keras.Model`.
        outputs: see `keras.Model`.
        name: name of the model.

    Raises:
        ValueError: data are not numbers, ids or texts as required, or are not finite; shapes or
            numbers of rows do not match; `batch_size` is not a positive integer. The message names
            the argument, the entry and what was expected.

    Example:

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> model = zoo.many_to_one(zoo.Vectors(2), zoo.Classes(3), "gru", units=4)
        >>> model.predict([[[0.5, 1.0], [0.0, 2.0]]], verbose=0).shape
        (1, 3)
        >>> model.predict(np.full((4, 6, 2), np.nan), verbose=0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: x[0, 0, 0]=nan: expected a number that is finite in float32. It is in row 0, ...
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(to_call(self.input, inputs, self), *args, **kwargs)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        x, y, sample_weight, batch_size = _data(self, x, y, sample_weight, batch_size)
        validation_data = _validation(self, validation_data)
        if kwargs.get("validation_batch_size") is not None:
            validation.positive_integer("validation_batch_size", kwargs["validation_batch_size"])
        watch = _Watch()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(watch)
        else:
            callbacks = [watch] if callbacks is None else [*keras.tree.flatten(callbacks), watch]
        return super().fit(
            x,
            y,
            batch_size,
            epochs,
            verbose,
            callbacks,
            validation_split,
            validation_data,
            shuffle,
            class_weight,
            sample_weight,
            *args,
            **kwargs,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if not kwargs.get("_use_cached_eval_dataset"):  # called by `fit`, which has validated them
            x, y, sample_weight, batch_size = _data(self, x, y, sample_weight, batch_size)
        return super().evaluate(x, y, batch_size, verbose, sample_weight, *args, **kwargs)

    def predict(self, x: Any, batch_size: int | None = None, *args: Any, **kwargs: Any) -> Any:
        x, batch_size = to_predict(self.input, x, batch_size, self)
        return super().predict(x, batch_size, *args, **kwargs)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        x, y, sample_weight = _batch(self, x, y, sample_weight)
        return super().train_on_batch(x, y, sample_weight, *args, **kwargs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        x, y, sample_weight = _batch(self, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        return super().predict_on_batch(_Inputs("x", self.input, self, read=False)(x))


def of(model: keras.Model) -> keras.Model:
    """Convert a functional `keras.Model` to a `Model` that shares its layers."""
    # A subclass may override `call`.
    functional = type(model) is type(keras.Model(*2 * [keras.Input(())]))
    return Model(model.input, model.output, name=model.name) if functional else model


# Functions instead of a base class: Keras changes the bases of functional models.


def to_call(like: Any, inputs: Any, model: keras.Model | None = None) -> Any:
    """Validate and convert the inputs of a call; tensors are returned unchanged.

    Args:
        like: symbolic tensors in the structure of the model's inputs.
        inputs: the argument.
        model: a functional model, whose embeddings define the valid ids.

    Raises:
        ValueError: the inputs are invalid for the model.
    """
    given = keras.tree.flatten(inputs)
    if len(given) == len(keras.tree.flatten(like)) and all(map(_is_tensor, given)):
        return inputs
    return _Inputs("inputs", like, model, read=False)(inputs)


def to_predict(
    like: Any, x: Any, batch_size: int | None, model: keras.Model | None = None
) -> tuple[Any, int | None]:
    """Validate the arguments of `predict`; data in batches is returned unchanged.

    Args:
        like: see `to_call`.
        x: the argument.
        batch_size: the argument.
        model: see `to_call`.

    Raises:
        ValueError: `x` is invalid for the model; `batch_size` is not positive.
    """
    of_texts = isinstance(like, keras.KerasTensor) and like.dtype == "string"
    batched = _comes_in_batches(x) and not (of_texts and isinstance(x, types.GeneratorType))
    batch_size = _batch_size(like, batch_size, batched)
    return (x if batched else _Inputs("x", like, model, batch_size)(x)), batch_size


def _data(model: Model, x: Any, y: Any, weights: Any, batch_size: int | None) -> tuple[Any, ...]:
    """Validate the arguments of `fit` and `evaluate`."""
    batched = _comes_in_batches(x)
    batch_size = _batch_size(model.input, batch_size, batched)
    if batched:
        return x, y, weights, batch_size
    inputs = _Inputs("x", model.input, model, batch_size)
    return *_checked(model, inputs, x, y, weights), batch_size


def _batch(model: Model, x: Any, y: Any, weights: Any) -> tuple[Any, ...]:
    """Validate the arguments of `train_on_batch` and `test_on_batch`."""
    return _checked(model, _Inputs("x", model.input, model, read=False), x, y, weights)


def _validation(model: Model, data: Any) -> Any:
    """Validate `validation_data`."""
    if data is None or _comes_in_batches(data):
        return data
    if not isinstance(data, (tuple, list)) or not 1 <= len(data) <= 3:
        raise ArgumentError(
            "validation_data", data, "(x, y)", "(x, y, sample_weight)", "a dataset of batches"
        )
    if _comes_in_batches(data[0]):
        return data
    names = [f"validation_data[{n}]" for n in range(3)]
    size = _batch_size(model.input, None, False)
    inputs = _Inputs(names[0], model.input, model, size)
    checked = _checked(model, inputs, *data, *[None] * (3 - len(data)), names=names)
    return checked[: len(data)]


def _checked(
    model: Model,
    inputs: "_Inputs",
    x: Any,
    y: Any,
    weights: Any,
    names: Any = ("x", "y", "sample_weight"),
) -> tuple[Any, Any, Any]:
    """Validate inputs, targets and weights, and their equal number of rows."""
    if y is None and model.compiled and model.loss is not None:
        raise ArgumentError(names[1], y, "targets, one for each row of the inputs")
    x = inputs(x)
    count = len(model.outputs)
    if isinstance(model.output, keras.KerasTensor):  # Keras accepts no dict in this case
        (output,) = model.output_names
        y = _only(names[1], output, y)
        weights = _only(names[2], output, weights)
    y = _targets(names[1], y, count, inputs, OF_LABELS, _classes(model))
    return x, y, _targets(names[2], weights, count, inputs)


class _Inputs:
    """Validates the inputs of a model, and records their number of rows.

    Args:
        name: name of the argument.
        like: symbolic tensors in the structure of the model's inputs.
        model: a functional model, whose embeddings define the valid ids.
        batch_size: the batch size of a model with a fixed one.
        read: whether to validate tensors, which takes time if they are on another device.
    """

    def __init__(
        self,
        name: str,
        like: Any,
        model: keras.Model | None,
        batch_size: int | None = None,
        read: bool = True,
    ) -> None:
        self.name = name
        self.like = like
        self.batch_size = batch_size
        self.read = read
        self.ids = {} if model is None else _ids(model)
        self.rows: dict[str, int] = {}
        """Numbers of rows by argument name."""

    def __call__(self, value: Any) -> Any:
        return self._structure(self.name, self.like, value)

    def count(self, name: str, rows: int | None) -> None:
        """Raise ValueError unless the number of rows equals that of the others."""
        if rows is None:
            return
        for other, count in self.rows.items():
            if count != rows:
                raise ValueError(
                    f"{name} has {rows} rows, and {other} {count}: expected equal numbers."
                )
        self.rows[name] = rows

    def _structure(self, name: str, like: Any, value: Any) -> Any:
        if isinstance(like, keras.KerasTensor):
            return self._one(name, like, value)
        if len(like) == 1:
            if isinstance(like, dict):
                return {key: self._one(name, each, value) for key, each in like.items()}
            return [self._one(name, like[0], value)]
        keys = list(like) if isinstance(like, dict) else [getattr(x, "name", None) for x in like]
        parts = list(like.values()) if isinstance(like, dict) else list(like)
        shown = ", ".join(map(str, keys))
        if isinstance(value, Mapping):
            missing = [key for key in keys if key not in value]
            if missing:
                raise ValueError(f"{name} has no {missing[0]!r}: expected a dict of {shown}.")
            given = [value[key] for key in keys]
        elif isinstance(like, dict) or not isinstance(value, (list, tuple)):
            kind = "dict" if isinstance(like, dict) else "list or a dict"
            raise ArgumentError(name, value, f"a {kind} of {len(keys)} arrays: {shown}")
        else:
            given = list(value)
            if len(given) != len(keys):
                raise ValueError(
                    f"{name} has {len(given)} entries: expected {len(keys)}, for {shown}."
                )
        checked = [
            self._structure(f"{name}[{key!r}]", part, each)
            for key, part, each in zip(keys, parts, given, strict=True)
        ]
        if isinstance(like, dict) or isinstance(value, Mapping):
            return dict(zip(keys, checked, strict=True))
        return checked

    def _one(self, name: str, like: Any, value: Any) -> Any:
        """Validate one input."""
        if not isinstance(like, keras.KerasTensor):
            return self._structure(name, like, value)
        value = _only(name, like.name, value)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            shape = getattr(value[0], "shape", None)  # for a list of arrays, one per input
            if shape is not None and len(shape) == len(like.shape):
                value = value[0]
        if value is None and getattr(operation_of(like), "optional", False):
            return None
        tensor = _is_tensor(value)
        if like.sparse or (tensor and not (self.read and is_concrete(value))):
            shape = getattr(value, "shape", ())
            self.count(name, shape[0] if len(shape) and isinstance(shape[0], int) else None)
            return value
        checked = self._texts if like.dtype == "string" else self._numbers
        found = checked(name, like, value)
        self._check_rows(name, like, len(found))
        return value if tensor else found

    def _texts(self, name: str, like: Any, value: Any) -> Any:
        if len(like.shape) == 1:
            return ops.convert_to_tensor(reading.as_texts(name, value))
        found = _shaped(name, like, validation.array(name, value))
        texts = np.array(reading.as_texts(name, found.ravel())).reshape(found.shape)
        return ops.convert_to_tensor(texts)

    def _numbers(self, name: str, like: Any, value: Any) -> np.ndarray:
        found = _shaped(name, like, validation.numbers(name, value, OF_TEXTS))
        if "float" in like.dtype:
            validation.finite(name, found, like.dtype, _axes(like))
        elif "int" in like.dtype:
            bounds = np.iinfo(like.dtype)
            ids = self.ids.get(like.name)
            minimum, maximum = (bounds.min, bounds.max) if ids is None else (0, ids - 1)
            validation.whole(name, found, minimum, maximum)
            if found.dtype.kind not in "iu":
                found = found.astype(like.dtype)
        return found

    def _check_rows(self, name: str, like: Any, rows: int) -> None:
        size = like.shape[0]
        if size is not None and (rows % size if self.batch_size else rows != size):
            raise ValueError(
                f"{name} has {rows} rows: expected {'a multiple of ' if self.batch_size else ''}"
                f"{size}, the batch size of the model."
            )
        self.count(name, rows)


def _targets(
    name: str,
    value: Any,
    count: int,
    inputs: _Inputs,
    advice: str = "",
    classes: int | None = None,
) -> Any:
    """Validate targets or weights; their shapes are left to the loss.

    Args:
        name: name of the argument.
        value: value of the argument.
        count: number of outputs.
        inputs: the inputs, with the expected number of rows.
        advice: how to convert texts to numbers, for messages.
        classes: number of classes, if the targets are class ids.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        return {
            key: _targets(f"{name}[{key!r}]", each, 1, inputs, advice, classes)
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple)) and len(value) == count:
        # With one output, a list is a list of rows, unless it contains a single array of all rows.
        shape = getattr(value[0], "shape", ())
        if count > 1 or (len(shape) and shape[0] in inputs.rows.values()):
            return [
                _targets(f"{name}[{n}]", each, 1, inputs, advice, classes)
                for n, each in enumerate(value)
            ]
    tensor = _is_tensor(value)
    if tensor and not (inputs.read and is_concrete(value)):
        return value
    found = validation.numbers(name, value, advice)
    validation.finite(name, found, keras.config.floatx())
    if classes is not None:
        validation.whole(name, found, 0, classes - 1)
    inputs.count(name, len(found))
    return value if tensor else found


def _only(name: str, key: str, value: Any) -> Any:
    """The value in a dict for a model's only input or output; other values unchanged."""
    if not isinstance(value, Mapping):
        return value
    if key not in value:
        raise ValueError(f"{name} has no {key!r}: expected it, or an array.")
    return value[key]


def _shaped(name: str, like: Any, found: np.ndarray) -> np.ndarray:
    """Reshape an array to an input's shape: a last axis of size 1 may be added or removed.

    Keras reshapes it, too, but fails if a function was traced with the other shape before.

    Raises:
        ValueError: the shape does not match.
    """
    shape, wanted = found.shape, like.shape
    if len(shape) == len(wanted) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        shape = (*shape, 1)
    if fits(shape[1:], wanted[1:]):
        return found if shape == found.shape else found.reshape(shape)
    one = found.ndim == len(wanted) - 1 and fits(found.shape, wanted[1:])
    advice = " A batch of this one row is x[np.newaxis]." if one else ""
    sizes = ["batch", *map(str, wanted[1:])]
    if wanted[1:2] == (None,):
        sizes[1] = "time"
    expected = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    raise ValueError(f"{name} has the shape {found.shape}: expected {expected}.{advice}")


def _axes(like: Any) -> list[str]:
    """Names of an input's axes, for messages."""
    axes = ["row"]
    if len(like.shape) > 1 and like.shape[1] is None:
        axes.append("step")
    if len(like.shape) == len(axes) + 1:
        axes.append("column")
    return axes


def _batch_size(like: Any, size: int | None, batched: bool) -> int | None:
    """The batch size of `fit`, `evaluate` or `predict`, or the fixed one of the model."""
    if size is not None:
        size = validation.positive_integer("batch_size", size)
    fixed = next((x.shape[0] for x in keras.tree.flatten(like) if x.shape[0] is not None), None)
    if batched or fixed is None:
        return size
    if size not in (None, fixed):
        raise ArgumentError("batch_size", size, f"{fixed}, the batch size of the model")
    return fixed


def _is_tensor(value: Any) -> bool:
    """Whether a value is a dense tensor of the backend, symbolic or not."""
    if isinstance(value, (keras.KerasTensor, keras.Variable)):
        return True
    return ops.is_tensor(value) and "Ragged" not in type(value).__name__


def _comes_in_batches(value: Any) -> bool:
    """Whether Keras reads the data in batches: a dataset, a loader or a generator."""
    if isinstance(value, (types.GeneratorType, keras.utils.PyDataset)):
        return True
    if hasattr(value, "__array__") or _is_tensor(value) or "Ragged" in type(value).__name__:
        return False
    return any(parent.__module__.startswith(OF_BATCHES) for parent in type(value).__mro__)


def _ids(model: keras.Model) -> dict[str, int]:
    """The number of ids of each input that feeds an embedding: 0 to count - 1."""
    found = {}
    for layer in model.layers:
        decoder = getattr(layer, "decoder", layer)  # a generator
        if isinstance(layer, keras.layers.Embedding):
            count = layer.input_dim
        elif isinstance(decoder, kerasrnn.Decoder) and decoder.kind == "classes":
            count = decoder.size
        else:
            continue
        for node in nodes_of(layer):
            tensors = node.input_tensors
            if isinstance(layer, kerasrnn.Generator):
                tensors = [node.arguments.kwargs.get(name) for name in ("prompt", "prefix")]
            found |= {x.name: count for x in tensors if any(x is each for each in model.inputs)}
    return found


def _classes(model: keras.Model) -> int | None:
    """The number of classes, if the loss takes class ids as targets."""
    known = (keras.losses.sparse_categorical_crossentropy, "sparse_categorical_crossentropy")
    losses = keras.tree.flatten(model.loss) if model.compiled else []
    if len(model.outputs) != 1 or len(losses) != 1:
        return None
    (loss,) = losses
    ids = isinstance(loss, keras.losses.SparseCategoricalCrossentropy) and loss.ignore_class is None
    return model.outputs[0].shape[-1] if ids or loss in known else None


class _Watch(keras.callbacks.Callback):
    """Warns once about a loss that is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.warned = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for name in ("loss", "val_loss"):
            value = float((logs or {}).get(name, 0.0))
            if not self.warned and not math.isfinite(value):
                self.warned = True
                warnings.warn(
                    f"Epoch {epoch + 1}: {name}={value}. Data are not finite, targets are none "
                    "of the classes, or the training diverged: try a lower learning rate, or "
                    "clipnorm=1.0 of the optimizer. keras.callbacks.TerminateOnNaN() ends such a "
                    "training.",
                    stacklevel=2,
                )
