"""The model class of the zoo, which validates data before Keras reads it."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.keras_internals import operation_of
from kerasrnn.validation import ArgumentError
from kerasrnn.zoo.input_checks import (
    CheckedInputs,
    batch_size_of,
    comes_in_batches,
    to_call,
    to_predict,
)
from kerasrnn.zoo.outputs import Output
from kerasrnn.zoo.target_checks import check_classes, checked_class_weight, checked_data


@keras.saving.register_keras_serializable(package="kerasrnn")
class Model(keras.Model):
    """A functional model that validates its data.

    All functions of the zoo return one, and so does `zoo.load`. It trains, predicts, saves and
    exports like any `keras.Model` with the same inputs and outputs. The topologies give it an
    `output_type`, such as `zoo.Classes(3)`: `compile` without a loss uses the loss and, unless
    given, the metrics of this output, and `zoo.decoded` its decoding.

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
        output_type: the kind of the only output, see `zoo.Output`, or None.

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

    # Keras rebuilds a functional model from its configuration only if the positional arguments are
    # those of `keras.Model`.
    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        output_type: Output | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.output_type = output_type
        self._of_output: tuple[str, ...] = ()

    @property
    def head(self) -> keras.layers.Layer:
        """The layer that computes the first output."""
        return output_layer(operation_of(self.outputs[0]))

    @property
    def has_loss_of_output(self) -> bool:
        """Whether the model was compiled with the loss of its `output_type`."""
        return "loss" in self._of_output

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self._of_output = ()
        if loss is None and self.output_type is not None:
            self._of_output = ("loss",)
            loss = self.output_type.loss(self.head)
            if metrics is None:
                self._of_output = ("loss", "metrics")
                metrics = self.output_type.metrics(self.head)
        super().compile(optimizer, loss, loss_weights, metrics, *args, **kwargs)

    # A loss that reads the weights of the output layer is created again for the loaded layer.

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        if self.compiled and self.output_type is not None:
            config = {k: value for k, value in config.items() if k not in self._of_output}
            config["output_type"] = keras.saving.serialize_keras_object(self.output_type)
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        output_type = config.pop("output_type", None)
        if self.output_type is None:  # a clone, which Keras builds only from inputs and outputs
            self.output_type = output_type
        self.compile(**config)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.output_type is not None:
            config["output_type"] = keras.saving.serialize_keras_object(self.output_type)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Model":
        if config.get("output_type") is not None:
            output_type = keras.saving.deserialize_keras_object(
                config["output_type"], custom_objects
            )
            config = {**config, "output_type": output_type}
        return super().from_config(config, custom_objects)

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
        class_weight = checked_class_weight(self, class_weight, sample_weight)
        x, y, sample_weight, batch_size = _data(self, x, y, sample_weight, batch_size)
        if class_weight is not None and not comes_in_batches(x):
            check_classes(self, "y", y)
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
        class_weight = checked_class_weight(self, class_weight, sample_weight)
        x, y, sample_weight = _batch(self, x, y, sample_weight)
        if class_weight is not None:
            check_classes(self, "y", y)
        return super().train_on_batch(x, y, sample_weight, class_weight, *args, **kwargs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        x, y, sample_weight = _batch(self, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        return super().predict_on_batch(CheckedInputs("x", self.input, self, read=False)(x))


def output_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer itself; of a model that is used as a layer, the layer of its first output."""
    while isinstance(layer, keras.Model):
        layer = operation_of(layer.outputs[0])
    return layer


def of(model: keras.Model) -> keras.Model:
    """Convert a functional `keras.Model` to a `Model` that shares its layers."""
    # A subclass may override `call`.
    functional = type(model) is type(keras.Model(*2 * [keras.Input(())]))
    return Model(model.input, model.output, name=model.name) if functional else model


def _data(model: Model, x: Any, y: Any, weights: Any, batch_size: int | None) -> tuple[Any, ...]:
    """Validate the arguments of `fit` and `evaluate`."""
    batched = comes_in_batches(x)
    batch_size = batch_size_of(model.input, batch_size, batched)
    if batched:
        return x, y, weights, batch_size
    inputs = CheckedInputs("x", model.input, model, batch_size)
    return *checked_data(model, inputs, x, y, weights), batch_size


def _batch(model: Model, x: Any, y: Any, weights: Any) -> tuple[Any, ...]:
    """Validate the arguments of `train_on_batch` and `test_on_batch`."""
    return checked_data(model, CheckedInputs("x", model.input, model, read=False), x, y, weights)


def _validation(model: Model, data: Any) -> Any:
    """Validate `validation_data`."""
    if data is None or comes_in_batches(data):
        return data
    if not isinstance(data, (tuple, list)) or not 1 <= len(data) <= 3:
        raise ArgumentError(
            "validation_data", data, "(x, y)", "(x, y, sample_weight)", "a dataset of batches"
        )
    if comes_in_batches(data[0]):
        return data
    names = [f"validation_data[{n}]" for n in range(3)]
    size = batch_size_of(model.input, None, False)
    inputs = CheckedInputs(names[0], model.input, model, size)
    checked = checked_data(model, inputs, *data, *[None] * (3 - len(data)), names=names)
    return checked[: len(data)]


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
                    f"Epoch {epoch + 1}: {name}={value}. Data are not finite, targets are not "
                    "among the classes, or the training diverged: try a lower learning rate, or "
                    "clipnorm=1.0 of the optimizer. keras.callbacks.TerminateOnNaN() stops the "
                    "training.",
                    stacklevel=2,
                )
