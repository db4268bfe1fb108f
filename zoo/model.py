"""The model class of the zoo, which validates data before Keras reads it."""

import math
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.base_layer import fits
from kerasrnn.keras_internals import get_keras_mask, graph_of, nodes_of, operation_of
from kerasrnn.losses.weights import is_concrete
from kerasrnn.validation import ArgumentError
from kerasrnn.wording import counted
from kerasrnn.zoo import reading

Tensor = Any

OF_TEXTS = "keras.layers.TextVectorization makes ids of texts."
OF_LABELS = "names, ids = np.unique(labels, return_inverse=True) makes ids of labels."
_OUTPUT_SHAPES: "weakref.WeakKeyDictionary[keras.Model, Any]" = weakref.WeakKeyDictionary()
"""For each model the shapes of its outputs, by those of its inputs."""
OF_OTHER_SHAPES = (
    *("CTC", "ctc", "Circle", "circle"),
    *("CategoricalGeneralizedCrossEntropy", "categorical_generalized_cross_entropy"),
)
"""Keras's losses whose targets have another shape than the outputs."""
OF_BATCHES = ("tensorflow.python.", "torch.utils.data", "grain.")


@keras.saving.register_keras_serializable(package="kerasrnn")
class Model(keras.Model):
    """A functional model that validates its data.

    All functions of the zoo return one, and so does `zoo.load`. It trains, predicts, saves and
    exports like any `keras.Model` with the same inputs and outputs.

    Inputs are arrays or tensors; pandas Series and DataFrames; lists and tuples of rows of equal
    length. Numbers must be finite. Ids are integers, or integral floats, in the range of the
    embedding. Texts are any one-dimensional collection of strings. For several inputs or outputs,
    pass a list or a dict by name. Targets and weights are finite numbers with as many rows as the
    inputs. For Keras's losses, targets have the shape of the output, or that of its class ids. A
    `sample_weight` of shape `(batch,)` or `(batch, 1)` weighs rows with all their steps, one of
    shape `(batch, time)` each step. `class_weight` is a dict of numbers by class id, for targets
    without steps; other classes have the weight 1.

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
            numbers of rows do not match; sequences have no steps; `batch_size` or `epochs` is not a
            positive integer; `validation_split` is outside [0, 1). The message names the argument,
            the entry and what was expected.

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
        epochs = validation.positive_integer("epochs", epochs)
        validation_split = validation.rate("validation_split", validation_split)
        class_weight = _class_weight(self, class_weight, sample_weight)
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
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        class_weight = _class_weight(self, class_weight, sample_weight)
        x, y, sample_weight = _batch(self, x, y, sample_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, *args, **kwargs)

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
    losses = dict(zip(map(id, model.outputs), _losses(model), strict=True))
    targets: dict[int, Any] = {}

    def target(name: str, output: Any, value: Any) -> Any:
        loss = losses.get(id(output))
        found = _target(name, output, value, inputs, loss)
        if _takes_ids(loss) or _takes_values(loss):
            _check_number_of_steps(name, model, output, found, inputs)
        targets[id(output)] = found
        return found

    def weight(name: str, output: Any, value: Any) -> Any:
        if value is None and inputs.rows:  # Keras takes weights of all outputs or of none
            value = np.ones(next(iter(inputs.rows.values())), keras.config.floatx())
        y = targets.get(id(output))
        return _weight(name, output, value, inputs, losses.get(id(output)), y)

    y = _of_outputs(names[1], model, y, inputs, target)
    one_for_all = len(model.outputs) > 1 and None not in losses.values()
    if one_for_all and not (weights is None or _has_parts(weights)):
        rows = validation.numbers(names[2], weights)
        weights = keras.tree.map_structure(lambda _: rows, model.output)
    return x, y, _of_outputs(names[2], model, weights, inputs, weight)


def _of_outputs(
    name: str, model: Model, value: Any, inputs: "_Inputs", check: Callable[..., Any]
) -> Any:
    """Validate targets or weights, and return them in the structure of the model's outputs.

    Args:
        name: name of the argument.
        model: the model.
        value: value of the argument.
        inputs: the inputs, with the expected number of rows.
        check: `check(name, output, value)` validates those of one output.
    """
    if value is None:
        return None
    if len(model.outputs) > 1:
        if None in _losses(model):  # Keras takes targets of the outputs that have a loss
            return _loose(name, value, check)
        keys = dict(zip(map(id, model.outputs), model.output_names, strict=True))
        return _structured(name, model.output, value, check, lambda x: keys.get(id(x)))
    (output,) = model.outputs
    (key,) = model.output if isinstance(model.output, dict) else model.output_names
    value = _only(name, key, value)  # Keras accepts no dict for a single tensor
    if isinstance(value, (list, tuple)) and len(value) == 1:
        # A list is a list of rows, unless it contains a single array of all rows.
        shape = getattr(value[0], "shape", ())
        if len(shape) and shape[0] in inputs.rows.values():
            value = value[0]
    checked = check(name, output, value)
    return keras.tree.map_structure(lambda _: checked, model.output)


def _loose(name: str, value: Any, check: Callable[..., Any]) -> Any:
    """Validate targets or weights, whatever their structure."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: _loose(f"{name}[{key!r}]", each, check) for key, each in value.items()}
    if _has_parts(value):
        return [_loose(f"{name}[{n}]", each, check) for n, each in enumerate(value)]
    return check(name, None, value)


def _has_parts(value: Any) -> bool:
    """Whether a value is a dict or a list of arrays, not of numbers."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, (list, tuple)) and not all(isinstance(x, Real) for x in value)


def _structured(
    name: str,
    like: Any,
    value: Any,
    check: Callable[..., Any],
    key_of: Callable[[Any], Any],
) -> Any:
    """Apply a check to each part of a value in the structure of a model's inputs or outputs.

    Args:
        name: name of the argument.
        like: symbolic tensors in the structure.
        value: value of the argument.
        check: `check(name, tensor, part)` returns the part to use.
        key_of: names a symbolic tensor.
    """
    if isinstance(like, keras.KerasTensor):
        return check(name, like, value)
    if len(like) == 1:
        if not isinstance(like, dict):
            return [_structured(name, like[0], value, check, key_of)]
        ((key, part),) = like.items()
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        return {key: _structured(name, part, value, check, key_of)}
    keys = list(like) if isinstance(like, dict) else [key_of(x) for x in like]
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
            raise ValueError(f"{name} has {len(given)} entries: expected {len(keys)}, for {shown}.")
    checked = [
        _structured(f"{name}[{key!r}]", part, each, check, key_of)
        for key, part, each in zip(keys, parts, given, strict=True)
    ]
    return dict(zip(keys, checked, strict=True)) if isinstance(like, dict) else checked


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
        self.may_be_empty = set() if model is None else _beginnings(model)
        self.rows: dict[str, int] = {}
        """Numbers of rows by argument name."""
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        """Shapes by the name of the input."""

    def __call__(self, value: Any) -> Any:
        return _structured(
            self.name, self.like, value, self._one, lambda x: getattr(x, "name", None)
        )

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

    def _one(self, name: str, like: Any, value: Any) -> Any:
        """Validate one input."""
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
            self.shapes[like.name] = tuple(shape)
            if like.name not in self.may_be_empty:
                _check_steps(name, shape)
            self.count(name, shape[0] if len(shape) and isinstance(shape[0], int) else None)
            return value
        checked = self._texts if like.dtype == "string" else self._numbers
        found = checked(name, like, value)
        self.shapes[like.name] = tuple(found.shape)
        if like.name not in self.may_be_empty:
            _check_steps(name, found.shape)
        self._check_rows(name, like, len(found))
        return value if tensor else found

    def _texts(self, name: str, like: Any, value: Any) -> Any:
        if len(like.shape) == 1:
            return ops.convert_to_tensor(reading.as_texts(name, value))
        found = _shaped(name, like.shape, validation.array(name, value))
        texts = np.array(reading.as_texts(name, found.ravel())).reshape(found.shape)
        return ops.convert_to_tensor(texts)

    def _numbers(self, name: str, like: Any, value: Any) -> np.ndarray:
        found = _shaped(name, like.shape, validation.numbers(name, value, OF_TEXTS))
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


def _target(name: str, output: Any, value: Any, inputs: _Inputs, loss: Any) -> Any:
    """Validate the targets of one output, and bring them to the rank that its loss computes with.

    Args:
        name: name of the argument.
        output: the symbolic output, which is ignored without a loss.
        value: value of the argument.
        inputs: the inputs, with the expected number of rows.
        loss: the loss of the output. The shape for a loss that is not Keras's is unknown.
    """
    if value is None:
        raise ArgumentError(name, value, "targets, one for each row of the inputs")
    found = _numbers_of_rows(name, value, inputs, OF_LABELS)
    targets = value if _is_tensor(value) else found
    _check_steps(name, targets.shape)
    sparse = _takes_ids(loss)
    if not (sparse or _takes_values(loss)) or len(output.shape) < 2:
        return targets
    classes = output.shape[-1]
    advice = ""
    if sparse and fits(targets.shape, output.shape):
        advice = " Class ids of one-hot vectors are y.argmax(axis=-1)."
    elif not sparse and classes != 1 and fits(targets.shape, output.shape[:-1]):
        advice = " Class ids are the targets of loss='sparse_categorical_crossentropy'."
    targets = _shaped(name, output.shape[:-1] if sparse else output.shape, targets, advice)
    if sparse and found is not None and classes is not None:
        is_object = isinstance(loss, keras.losses.Loss)
        ignored = loss.get_config().get("ignore_class") if is_object else None
        ids = found if ignored is None else np.where(found == ignored, 0, found)
        validation.whole(name, ids, 0, classes - 1)
    return targets


def _check_number_of_steps(name: str, model: Model, output: Any, y: Any, inputs: _Inputs) -> None:
    """Raise ValueError unless targets have the steps of the output. Keras broadcasts one step."""
    steps = tuple(y.shape)[1:2]
    if len(output.shape) < 3 or output.shape[1] is not None or None in steps:
        return
    read = {inputs.shapes.get(x.name, ())[1:2] for x in model.inputs if x.shape[1:2] == (None,)}
    if steps in read and (len(read) == 1 or steps != (1,)):
        return
    # Rarely needed: no input has this number of steps, or one of several has a single step.
    expected = _output_shape(model, output, inputs)[1]
    if expected not in (None, *steps):
        raise ValueError(
            f"{name} has {counted(steps[0], 'step')}, and the output {expected}: expected equal "
            "numbers."
        )


def _output_shape(model: Model, output: Any, inputs: _Inputs) -> tuple[int | None, ...]:
    """The shape of an output for inputs of these shapes, as far as it can be inferred."""
    shapes = tuple(inputs.shapes.get(x.name, tuple(x.shape))[1:] for x in model.inputs)
    known = _OUTPUT_SHAPES.setdefault(model, {})
    if shapes not in known:
        specs = [
            keras.KerasTensor((x.shape[0], *shape), x.dtype, sparse=x.sparse, name=x.name)
            for x, shape in zip(model.inputs, shapes, strict=True)
        ]
        found = model.compute_output_spec(keras.tree.pack_sequence_as(model.input, specs))
        known[shapes] = [tuple(spec.shape) for spec in keras.tree.flatten(found)]
    (n,) = (n for n, each in enumerate(model.outputs) if each is output)
    return known[shapes][n]


def _weight(name: str, output: Any, value: Any, inputs: _Inputs, loss: Any, y: Any) -> Any:
    """Validate the weights of one output, and bring them to the rank of its losses.

    Keras multiplies the losses `(batch, time)` of an output with steps by the weights, and would
    broadcast weights `(batch,)` along the rows.

    Args:
        name: name of the argument.
        output: the symbolic output, which is ignored without a loss.
        value: value of the argument.
        inputs: the inputs, with the expected number of rows.
        loss: the loss of the output.
        y: the validated targets, which have the number of steps, or None.
    """
    found = _numbers_of_rows(name, value, inputs)
    weights = value if _is_tensor(value) else found
    if loss is None:
        return weights
    shape = tuple(weights.shape)
    rank = max(len(output.shape) - 1, 1)
    if len(shape) == 2 and shape[1] == 1:
        weights = weights[:, 0]
    known = _takes_ids(loss) or _takes_values(loss)
    steps = output.shape[1:rank] if y is None else tuple(y.shape)[1:rank]
    if len(weights.shape) == 1:
        weights = weights[(..., *[None] * (rank - 1))]
        masked = rank > 1 and get_keras_mask(output) is not None
        if masked and known and None not in steps and keras.config.backend() == "torch":
            # Keras multiplies them by the mask in place there, which does not broadcast them.
            ones = (ops if _is_tensor(value) else np).ones((1, *steps), keras.config.floatx())
            weights = weights * ones
        return weights
    if rank > 1 and fits(shape[1:], steps):
        return weights
    losses = (None, *steps, *output.shape[rank:])
    own = isinstance(loss, kerasrnn.losses.SequenceCrossentropy)
    if not (known or own) and fits(
        shape, losses[: len(shape)]
    ):  # such a loss may not average the last axis
        return weights
    axes = ", ".join(["batch", *(str(n or "time") for n in output.shape[1:rank])])
    more = f", or ({axes}), one for each step" if rank > 1 else ""
    raise ValueError(
        f"{name} has the shape {shape}: expected (batch,) or (batch, 1), one weight for each "
        f"row{more}."
    )


def _numbers_of_rows(name: str, value: Any, inputs: _Inputs, advice: str = "") -> np.ndarray | None:
    """The finite numbers of targets or weights; None for tensors that are not to be read."""
    if _is_tensor(value) and not (inputs.read and is_concrete(value)):
        return None
    found = validation.numbers(name, value, advice)
    validation.finite(name, found, keras.config.floatx())
    inputs.count(name, len(found))
    return found


def _class_weight(model: Model, value: Any, sample_weight: Any) -> dict[int, float] | None:
    """Validate `class_weight`."""
    name = "class_weight"
    if value is None:
        return None
    if len(model.outputs) > 1:
        raise ArgumentError(name, value, "None for several outputs; sample_weight weighs each")
    (output,) = model.outputs
    if len(output.shape) > 2:
        # Keras would look up the position of the largest id of each row.
        raise ArgumentError(
            name, value, "None for targets with steps; sample_weight weighs steps, (batch, time)"
        )
    if not isinstance(value, Mapping):
        raise ArgumentError(name, value, "a dict of numbers by class id")
    if sample_weight is not None:
        raise ArgumentError(name, value, "None with sample_weight")
    (loss,) = _losses(model)
    classes = output.shape[-1] if _takes_ids(loss) or _takes_values(loss) else None
    if classes == 1:  # the probability of the second of two classes, or a value
        of_two = getattr(loss, "__name__", type(loss).__name__).lower().startswith("binary")
        classes = 2 if of_two else None
    checked = {}
    for key, number in value.items():
        found = int(key) if isinstance(key, float) and key.is_integer() else key
        bounds = () if classes is None else (0, classes - 1)
        found = validation.integer("a key of class_weight", found, *bounds)
        checked[found] = validation.number(f"{name}[{key!r}]", number)
    return checked


def _losses(model: Model) -> list[Any]:
    """The loss of each output; None for one without a loss, or with several."""
    count = len(model.outputs)
    loss = model.loss if model.compiled else None
    if isinstance(loss, Mapping):
        names = model.output_names
        if isinstance(model.output, dict):
            keys = {id(output): key for key, output in model.output.items()}
            names = [keys.get(id(output)) for output in model.outputs]
        given = [loss.get(name) for name in names]
    elif isinstance(loss, (list, tuple)):
        given = list(loss) if len(loss) == count else [None] * count
    else:
        given = [loss] * count
    found = []
    for each in given:
        try:
            found.append(keras.losses.get(each))
        except (ValueError, TypeError):  # reported by Keras
            found.append(None)
    return found


def _takes_ids(loss: Any) -> bool:
    """Whether the targets of a loss are class ids, in the shape of the output without classes."""
    return loss is keras.losses.sparse_categorical_crossentropy or isinstance(
        loss, keras.losses.SparseCategoricalCrossentropy
    )


def _takes_values(loss: Any) -> bool:
    """Whether a loss is one of Keras's, with targets in the shape of the output."""
    kind = loss if isinstance(loss, types.FunctionType) else type(loss)
    name = kind.__name__
    own = getattr(keras.losses, name, None) is kind
    return own and not _takes_ids(loss) and name not in OF_OTHER_SHAPES


def _check_steps(name: str, shape: Any) -> None:
    """Raise ValueError if there are no steps. Keras's errors depend on what was traced before."""
    if 0 in tuple(shape)[1:]:
        raise ValueError(f"{name} has the shape {tuple(shape)}: expected one step at least.")


def _only(name: str, key: str, value: Any) -> Any:
    """The value in a dict for a model's only input or output; other values unchanged."""
    if not isinstance(value, Mapping):
        return value
    if key not in value:
        raise ValueError(f"{name} has no {key!r}: expected it, or an array.")
    return value[key]


def _shaped(name: str, wanted: Any, found: Any, advice: str = "") -> Any:
    """Bring an array or a tensor to a symbolic shape: a last axis of size 1 is added or removed.

    Keras reshapes it, too, but fails if a function was traced with the other shape before.

    Raises:
        ValueError: the shape does not match.
    """
    given = tuple(found.shape)
    if len(given) == len(wanted) + 1 and given[-1] == 1:
        found = found[..., 0]
    elif len(given) == len(wanted) - 1 and wanted[-1] == 1:
        found = found[..., None]
    if found.shape and fits(tuple(found.shape)[1:], wanted[1:]):
        return found
    if not advice and len(given) == len(wanted) - 1 and fits(given, wanted[1:]):
        advice = " A batch of this one row is x[np.newaxis]."
    sizes = ["batch", *map(str, wanted[1:])]
    if wanted[1:2] == (None,):
        sizes[1] = "time"
    expected = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    raise ValueError(f"{name} has the shape {given}: expected {expected}.{advice}")


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
    """The number of ids of each input that feeds embeddings: 0 to count - 1, in all of them."""
    found: dict[str, int] = {}
    own = {id(x): x.name for x in model.inputs}
    for layer in model.layers:
        for tensor, count in _reads(layer):
            if id(tensor) in own:
                name = own[id(tensor)]
                found[name] = min(count, found.get(name, count))
    return found


def _reads(layer: keras.layers.Layer) -> Iterator[tuple[Any, int]]:
    """The tensors that a layer looks up, each with its number of ids."""
    if isinstance(layer, keras.Model):
        if graph_of(layer) is not None:
            inner = _ids(layer)
            for node in nodes_of(layer):
                for tensor, part in _parts(node, layer):
                    if part.name in inner:
                        yield tensor, inner[part.name]
        return
    decoder = getattr(layer, "decoder", layer)  # a generator
    if isinstance(layer, keras.layers.Embedding):
        count = layer.input_dim
    elif isinstance(decoder, kerasrnn.Decoder) and decoder.kind == "classes":
        count = decoder.size
    else:
        return
    for node in nodes_of(layer):
        tensors = node.input_tensors
        if isinstance(layer, kerasrnn.Generator):
            tensors = _beginnings_of(node)
        yield from ((tensor, count) for tensor in tensors)


def _parts(node: Any, model: keras.Model) -> list[tuple[Any, Any]]:
    """The tensors that a call gave a model, each with the model's input that receives it."""
    arguments = node.arguments
    given = arguments.args[0] if arguments.args else next(iter(arguments.kwargs.values()))
    if isinstance(given, Mapping):
        like = model.input
        parts = like if isinstance(like, dict) else {x.name: x for x in model.inputs}
        return [(given[key], part) for key, part in parts.items() if key in given]
    return list(zip(keras.tree.flatten(given), model.inputs, strict=False))


def _beginnings(model: keras.Model) -> set[str]:
    """The names of the inputs that are prompts or prefixes of a generator, which may be empty."""
    found = {
        id(tensor)
        for layer in model.layers
        if isinstance(layer, kerasrnn.Generator)
        for node in nodes_of(layer)
        for tensor in _beginnings_of(node)
    }
    return {x.name for x in model.inputs if id(x) in found}


def _beginnings_of(node: Any) -> list[Any]:
    return [node.arguments.kwargs.get(name) for name in ("prompt", "prefix")]


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
