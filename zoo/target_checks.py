"""Checks of targets and weights, before Keras reads them."""

import types
import weakref
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.base_layer import fits
from kerasrnn.keras_internals import get_keras_mask, is_concrete
from kerasrnn.losses.label_sequences import LabelSequenceLoss
from kerasrnn.validation import ArgumentError
from kerasrnn.wording import counted
from kerasrnn.zoo.input_checks import (
    CheckedInputs,
    check_has_steps,
    is_tensor,
    only,
    shaped,
    structured,
)
from kerasrnn.zoo.outputs import Output

OF_LABELS = "names, ids = np.unique(labels, return_inverse=True) converts labels to ids."
_OUTPUT_SHAPES: "weakref.WeakKeyDictionary[keras.Model, Any]" = weakref.WeakKeyDictionary()
"""For each model the shapes of its outputs, by those of its inputs."""
OF_OTHER_SHAPES = (
    *("CTC", "ctc", "Circle", "circle"),
    *("CategoricalGeneralizedCrossEntropy", "categorical_generalized_cross_entropy"),
)
"""Keras's losses whose targets and outputs differ in shape."""


def checked_data(
    model: keras.Model,
    inputs: CheckedInputs,
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
    output_type = model.output_type if model.has_loss_of_output else None
    targets: dict[int, Any] = {}

    def target(name: str, output: Any, value: Any) -> Any:
        loss = losses.get(id(output))
        expected = _expected(output, loss, output_type)
        converted = _target(name, output, value, inputs, loss, expected)
        if expected.aligned:
            _check_number_of_steps(name, model, output, converted, inputs)
        targets[id(output)] = converted
        return converted

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
    name: str, model: keras.Model, value: Any, inputs: CheckedInputs, check: Callable[..., Any]
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
        return structured(name, model.output, value, check, lambda x: keys.get(id(x)))
    (output,) = model.outputs
    (key,) = model.output if isinstance(model.output, dict) else model.output_names
    value = only(name, key, value)  # Keras accepts no dict for a single tensor
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


class _Expected(NamedTuple):
    """The targets that a loss expects."""

    shape: tuple[int | None, ...] | None
    """The symbolic shape; None if it is unknown: the loss is neither Keras's nor of the output."""
    ids: int | None = None
    """The number of ids; None for numbers."""
    aligned: bool = False
    """Whether targets have the steps of the predictions."""
    check: Callable[[str, np.ndarray], None] | None = None
    """The output's own check."""


def _expected(output: Any, loss: Any, output_type: Output | None) -> _Expected:
    """Return the targets that the loss of an output expects.

    Args:
        output: the symbolic output.
        loss: its loss.
        output_type: the kind of the output, if the loss is its own.
    """
    if output_type is not None:
        shape = output_type.target_shape(tuple(output.shape))
        check = output_type.check_targets
        return _Expected(shape, output_type.target_ids, output_type.aligned, check)
    if _takes_ids(loss):
        return _Expected(output.shape[:-1], output.shape[-1], True)
    if _takes_values(loss):
        return _Expected(output.shape, None, True)
    return _Expected(None)


def _target(name: str, output: Any, value: Any, inputs: CheckedInputs, loss: Any, of: Any) -> Any:
    """Validate the targets of one output, and bring them to the rank that its loss computes with.

    Args:
        name: name of the argument.
        output: the symbolic output, which is ignored without a loss.
        value: value of the argument.
        inputs: the inputs, with the expected number of rows.
        loss: the loss of the output.
        of: what it expects, an `_Expected`.
    """
    if value is None:
        raise ArgumentError(name, value, "targets, one for each row of the inputs")
    numbers = _numbers_of_rows(name, value, inputs, OF_LABELS)
    targets = value if is_tensor(value) else numbers
    check_has_steps(name, targets.shape)
    if of.shape is None or len(output.shape) < 2:
        return targets
    advice = ""
    if of.ids is not None and fits(targets.shape, output.shape):
        advice = " y.argmax(axis=-1) converts one-hot vectors to class ids."
    elif _takes_values(loss) and output.shape[-1] != 1 and fits(targets.shape, output.shape[:-1]):
        advice = " Class ids are the targets of loss='sparse_categorical_crossentropy'."
    targets = shaped(name, of.shape, targets, advice)
    if of.ids is not None and numbers is not None:
        is_object = isinstance(loss, keras.losses.Loss)
        ignored = loss.get_config().get("ignore_class") if is_object else None
        ids = numbers if ignored is None else np.where(numbers == ignored, 0, numbers)
        validation.integers(name, ids, 0, of.ids - 1)
    if numbers is not None and of.check is not None:
        of.check(name, np.asarray(ops.convert_to_numpy(targets)))
    if numbers is not None and _is_binary(loss):
        _check_probabilities(name, np.asarray(ops.convert_to_numpy(targets)))
    return targets


def _check_probabilities(name: str, targets: np.ndarray) -> None:
    """Raise ValueError unless the targets of a binary crossentropy are from 0 to 1.

    A step whose targets are all the same may be padding, with any value.
    """
    wrong = np.abs(targets - 0.5) > 0.5 + 1e-6
    if targets.ndim > 2:
        wrong &= (targets != targets[..., :1]).any(axis=-1, keepdims=True)
    if wrong.any():
        index = tuple(map(int, np.unravel_index(wrong.argmax(), wrong.shape)))
        entry = f"{name}[{', '.join(map(str, index))}]"
        raise ArgumentError(entry, targets[index].item(), "a number from 0 to 1")


def _check_number_of_steps(
    name: str, model: keras.Model, output: Any, y: Any, inputs: CheckedInputs
) -> None:
    """Raise ValueError unless targets have the steps of the output. Keras broadcasts one step."""
    steps = tuple(y.shape)[1:2]
    if len(output.shape) < 3 or output.shape[1] is not None or None in steps:
        return
    expected = _output_shape(model, output, inputs)[1]
    if expected not in (None, *steps):
        raise ValueError(
            f"{name} has {counted(steps[0], 'step')}, and the output {expected}: expected equal "
            "numbers."
        )


def _output_shape(model: keras.Model, output: Any, inputs: CheckedInputs) -> tuple[int | None, ...]:
    """The shape of an output for inputs of these shapes, as far as it can be inferred."""
    shapes = tuple(inputs.shapes.get(x.name, tuple(x.shape))[1:] for x in model.inputs)
    known = _OUTPUT_SHAPES.setdefault(model, {})
    if shapes not in known:
        specs = [
            keras.KerasTensor((x.shape[0], *shape), x.dtype, sparse=x.sparse, name=x.name)
            for x, shape in zip(model.inputs, shapes, strict=True)
        ]
        outputs = model.compute_output_spec(keras.tree.pack_sequence_as(model.input, specs))
        known[shapes] = [tuple(spec.shape) for spec in keras.tree.flatten(outputs)]
    (n,) = (n for n, each in enumerate(model.outputs) if each is output)
    return known[shapes][n]


def _weight(name: str, output: Any, value: Any, inputs: CheckedInputs, loss: Any, y: Any) -> Any:
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
    numbers = _numbers_of_rows(name, value, inputs)
    weights = value if is_tensor(value) else numbers
    if loss is None:
        return weights
    shape = tuple(weights.shape)
    # A loss of label sequences has one number for each row.
    of_rows = isinstance(loss, LabelSequenceLoss)
    rank = 1 if of_rows else max(len(output.shape) - 1, 1)
    if len(shape) == 2 and shape[1] == 1:
        weights = weights[:, 0]
    known = _takes_ids(loss) or _takes_values(loss)
    steps = output.shape[1:rank] if y is None else tuple(y.shape)[1:rank]
    if len(weights.shape) == 1:
        weights = weights[(..., *[None] * (rank - 1))]
        masked = rank > 1 and get_keras_mask(output) is not None
        if masked and known and None not in steps and keras.config.backend() == "torch":
            # Keras multiplies them by the mask in place there, which does not broadcast them.
            ones = (ops if is_tensor(value) else np).ones((1, *steps), keras.config.floatx())
            weights = weights * ones
        return weights
    if rank > 1 and fits(shape[1:], steps):
        return weights
    losses = (None, *steps, *output.shape[rank:])
    own = isinstance(loss, kerasrnn.losses.SequenceCrossentropy)
    if not (known or own or of_rows) and fits(
        shape, losses[: len(shape)]
    ):  # such a loss may not average the last axis
        return weights
    axes = ", ".join(["batch", *(str(n or "time") for n in output.shape[1:rank])])
    more = f", or ({axes}), one for each step" if rank > 1 else ""
    raise ValueError(
        f"{name} has the shape {shape}: expected (batch,) or (batch, 1), one weight for each "
        f"row{more}."
    )


def _numbers_of_rows(
    name: str, value: Any, inputs: CheckedInputs, advice: str = ""
) -> np.ndarray | None:
    """The finite numbers of targets or weights; None for tensors that are not to be read."""
    if is_tensor(value) and not (inputs.read and is_concrete(value)):
        return None
    numbers = validation.numbers(name, value, advice)
    validation.finite(name, numbers, keras.config.floatx())
    inputs.count(name, len(numbers))
    return numbers


def checked_class_weight(
    model: keras.Model, value: Any, sample_weight: Any
) -> dict[int, float] | None:
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
        classes = 2 if _is_binary(loss) else None
    checked = {}
    for key, number in value.items():
        class_id = int(key) if isinstance(key, float) and key.is_integer() else key
        bounds = () if classes is None else (0, classes - 1)
        class_id = validation.integer("a key of class_weight", class_id, *bounds)
        checked[class_id] = validation.number(f"{name}[{key!r}]", number)
    return checked


def check_classes(model: keras.Model, name: str, y: Any) -> None:
    """Raise ValueError unless each row of the targets has one class, as `class_weight` requires.

    Keras would take the largest of several numbers as the class of a row, and round a single one.

    Args:
        model: the model, with one output.
        name: name of the targets.
        y: the validated targets.
    """
    (y,) = keras.tree.flatten(y)
    (loss,) = _losses(model)
    if not _takes_values(loss) or (is_tensor(y) and not is_concrete(y)):
        return
    targets = np.asarray(ops.convert_to_numpy(y))
    if targets.ndim == 2 and targets.shape[1] > 1:
        kind = _name(loss).replace("_", "").lower()
        if kind.startswith(("categorical", "kl", "kullback")):  # targets may be probabilities
            return
        right = ((targets == 0) | (targets == 1)).all(axis=1) & (targets.sum(axis=1) == 1)
    elif _is_binary(loss):
        return
    else:
        right = (targets == np.round(targets)).reshape(len(targets), -1).all(axis=1)
    if not right.all():
        n = int(right.argmin())
        row = targets[n].tolist()
        raise ArgumentError(
            f"{name}[{n}]",
            row[0] if isinstance(row, list) and len(row) == 1 else row,
            "one class, with class_weight; sample_weight weighs rows",
        )


def _losses(model: keras.Model) -> list[Any]:
    """The loss of each output; None for one without a loss, or with several."""
    count = len(model.outputs)
    loss = model.loss if model.compiled else None
    if isinstance(loss, Mapping):
        names = model.output_names
        if isinstance(model.output, dict):
            keys = {id(output): key for key, output in model.output.items()}
            names = [keys.get(id(output)) for output in model.outputs]
        entries = [loss.get(name) for name in names]
    elif isinstance(loss, (list, tuple)):
        entries = list(loss) if len(loss) == count else [None] * count
    else:
        entries = [loss] * count
    losses = []
    for each in entries:
        try:
            losses.append(keras.losses.get(each))
        except (ValueError, TypeError):  # reported by Keras
            losses.append(None)
    return losses


def _takes_ids(loss: Any) -> bool:
    """Whether the targets of a loss are class ids, in the shape of the output without classes."""
    return loss is keras.losses.sparse_categorical_crossentropy or isinstance(
        loss, keras.losses.SparseCategoricalCrossentropy
    )


def _takes_values(loss: Any) -> bool:
    """Whether a loss is one of Keras's, with targets in the shape of the output."""
    name = _name(loss)
    kind = loss if isinstance(loss, types.FunctionType) else type(loss)
    own = getattr(keras.losses, name, None) is kind
    return own and not _takes_ids(loss) and name not in OF_OTHER_SHAPES


def _is_binary(loss: Any) -> bool:
    """Whether a loss is one of Keras's binary crossentropies."""
    return _takes_values(loss) and _name(loss).lower().startswith("binary")


def _name(loss: Any) -> str:
    """The name of a loss function, or of the class of a loss."""
    return (loss if isinstance(loss, types.FunctionType) else type(loss)).__name__
