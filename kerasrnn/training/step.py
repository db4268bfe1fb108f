"""One training step: the gradients of a batch on one or several devices, and the update."""

from typing import Any

import keras
import tensorflow as tf

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import RNN
from kerasrnn.keras_internals import flatten_layers, get_keras_mask, make_variables
from kerasrnn.training.errors import BatchError

Tensor = Any


class Signals:
    """Signals between steps and processes; neither saved nor mirrored."""

    def __init__(self) -> None:
        self.diverged_at = tf.Variable(-1, dtype="int64", trainable=False)
        """The first step whose loss or gradients were not finite; -1: none."""

        self.request = tf.Variable(0.0, trainable=False)
        """The request of this process."""

        self.agreed = tf.Variable(0.0, trainable=False)
        """The sum of all requests, the same in all processes after each step."""


class TrainingModel(keras.Model):
    """A model in training.

    A step computes the loss L of a batch and its gradients. L is a weighted mean, for example over
    the unmasked tokens. If the batch is split, among devices or into `parts` that are computed
    sequentially, each share s has its mean L_s over n_s tokens, and

        L = sum_s n_s L_s / sum_s n_s,    dL = sum_s n_s dL_s / sum_s n_s,

    which is the mean of the entire batch. The mean of the L_s differs from it if the shares are
    padded differently. Gradients are clipped after the sum. The result of a step therefore does not
    depend on how the batch is split.

    Args:
        model: the functional or sequential model to train.
        signals: created outside the scope of a strategy.
        parts: number of parts of each device's share, which must be divisible by it.
        by_xla: whether XLA compiles each device's share of a step: on one device, the entire step;
            on several, everything but the exchange between them, which XLA cannot compile.
        watch_gradients: whether gradients that are not finite are an error, as for the loss. With
            loss scaling they are not: the step is skipped.
    """

    def __init__(
        self,
        model: keras.Model,
        signals: Signals,
        parts: int = 1,
        by_xla: bool = False,
        watch_gradients: bool = True,
    ) -> None:
        if isinstance(model, keras.Sequential):
            super().__init__(*model.inputs, *model.outputs, name=model.name)
        else:
            super().__init__(model.input, model.output, name=model.name)
        self.parts = parts
        self.by_xla = by_xla
        self.watch_gradients = watch_gradients
        self.replicas = self.distribute_strategy.num_replicas_in_sync
        self.signals = signals

    def prepare(self, batches: tf.data.Dataset) -> None:
        """Create all variables, including those of the optimizer and the metrics.

        Raises:
            BatchError: the loss of the entire batch cannot be computed from its shares.
        """
        if self.replicas * self.parts > 1:
            self._check_split(weighted=len(batches.element_spec) == 3)
        with self.distribute_strategy.scope():
            make_variables(self, batches.element_spec)

    def compile_loops(self) -> None:
        """Let XLA compile all time loops.

        By default it compiles no loop over an unknown number of segments (`checkpoint_every`),
        which is compiled for each length, and those of an evaluation only when they have run often:
        a resumed run would then compute other last digits than an uninterrupted one. The batches
        have few lengths, and an evaluation repeats them in every epoch.
        """
        for layer in flatten_layers(self):
            if isinstance(layer, RNN) and isinstance(layer.cell, Cell):
                layer.jit_compile = True

    def train_step(self, data: Any) -> dict[str, Tensor]:
        loss, gradients = self._gradients(*keras.utils.unpack_x_y_sample_weight(data))
        finite = tf.math.is_finite(loss)
        if self.watch_gradients:
            for gradient in gradients:
                finite &= tf.reduce_all(tf.math.is_finite(gradient))
            # Leave the weights unchanged, so that the cause can be found.
            gradients = [tf.where(finite, gradient, 0) for gradient in gradients]
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations), "int64")
        known = self.signals.diverged_at
        known.assign(tf.where(finite | (known >= 0), known, step), read_value=False)
        self.optimizer.apply(gradients, self.trainable_weights)
        self._track(loss, data)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, Tensor]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        predicted = self(x, training=False)
        loss = self._loss(x, y, predicted, weights, training=False)
        if self.replicas > 1:
            count = self._count(y, predicted, weights)
            loss, count = self._sum([_product(loss, count), count])
            loss = tf.math.divide_no_nan(loss, count)
        self.compute_metrics(x, y, predicted, weights)
        self._track(loss, data)
        return self.get_metrics_result()

    def _gradients(self, x: Any, y: Any, weights: Any) -> tuple[Tensor, list[Tensor]]:
        """The loss of the entire batch and its gradients."""
        share = self._share
        if self.by_xla and self.replicas > 1:
            share = tf.function(share, jit_compile=True)
        loss, count, gradients = share(x, y, weights)
        if self.replicas > 1:
            sums = self._sum(
                [
                    _product(loss, count),
                    count,
                    tf.identity(self.signals.request),  # on this device
                    *(_product(gradient, count) for gradient in gradients),
                ]
            )
            loss, count, request, *gradients = sums
            self.signals.agreed.assign(request, read_value=False)
            loss = tf.math.divide_no_nan(loss, count)
            gradients = [tf.math.divide_no_nan(gradient, count) for gradient in gradients]
        return loss, gradients

    def _share(self, x: Any, y: Any, weights: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Loss, count and gradients of a device's share, in its parts."""
        if self.parts == 1:
            return self._part(x, y, weights)
        data = keras.tree.map_structure(self._split, (x, y, weights))

        def add(n: Tensor, total: Tensor, number: Tensor, sums: list[Tensor]) -> Any:
            part = keras.tree.map_structure(lambda t: None if t is None else t[n], data)
            loss, count, gradients = self._part(*part)
            sums = [a + _product(b, count) for a, b in zip(sums, gradients, strict=True)]
            return n + 1, total + _product(loss, count), number + count, sums

        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in self.trainable_weights]
        _, total, number, sums = tf.while_loop(
            lambda n, *_: n < self.parts,
            add,
            [tf.constant(0), tf.constant(0.0), tf.constant(0.0), zeros],
            maximum_iterations=self.parts,
            # Sequentially: otherwise the forward pass of one part overlaps with the backward pass
            # of another, and all of them take memory at once.
            parallel_iterations=1,
        )
        return (
            tf.math.divide_no_nan(total, number),
            number,
            [tf.math.divide_no_nan(gradient, number) for gradient in sums],
        )

    def _part(self, x: Any, y: Any, weights: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self._loss(x, y, predicted, weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        for weight, gradient in zip(self.trainable_weights, gradients, strict=True):
            if gradient is None:
                raise ValueError(f"the loss does not depend on the weights {weight.path}.")
        self.compute_metrics(x, y, predicted, weights)
        # The gradient of an embedding has a row per lookup, and Keras would clip and square the
        # rows before summing those of an id, which gives neither the norm nor the square of the
        # gradient.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return loss, self._count(y, predicted, weights), gradients

    def _loss(self, x: Any, y: Any, predicted: Any, weights: Any, training: bool) -> Tensor:
        loss = self.compute_loss(x, y, predicted, weights, training=training)
        return loss * self.replicas  # Keras has divided by them

    def _count(self, y: Any, predicted: Any, weights: Any) -> Tensor:
        """The denominator of the loss: a number of values, or a sum of weights."""
        if self.replicas == 1 and self.parts == 1:
            return tf.constant(1.0)  # no mask, no weights
        loss, *_ = keras.tree.flatten(self.loss)
        predicted, *others = keras.tree.flatten(predicted)
        if others:
            return tf.constant(1.0)  # all shares have the same number of rows
        if hasattr(loss, "denominator"):
            y, weights = (None if x is None else keras.tree.flatten(x)[0] for x in (y, weights))
            return tf.cast(loss.denominator(y, predicted, weights), "float32")
        mask = get_keras_mask(predicted)  # as in Keras's losses
        if mask is not None:
            return tf.reduce_sum(tf.cast(mask, "float32"))
        return tf.cast(tf.reduce_prod(tf.shape(predicted)[:-1]), "float32")

    def _check_split(self, weighted: bool) -> None:
        """Raise BatchError if the loss of the entire batch cannot be computed from its shares.

        Before tracing, in which TensorFlow would raise an error of its own.
        """
        losses, outputs = keras.tree.flatten(self.loss), len(self.outputs)
        masked = any(get_keras_mask(output) is not None for output in self.outputs)
        weighted, split = weighted or masked, self.replicas * self.parts
        for loss in losses:
            if hasattr(loss, "denominator") or not isinstance(loss, keras.losses.Loss):
                continue
            means = ["mean", "sum_over_batch_size"]
            means += [] if weighted else ["mean_with_sample_weight"]
            if loss.reduction not in means:
                raise BatchError(
                    f"{loss.name} with reduction={loss.reduction!r}: expected "
                    f"'sum_over_batch_size' for batches that are split into {split} parts."
                )
        if outputs > 1 and (weighted or any(hasattr(loss, "denominator") for loss in losses)):
            raise BatchError(
                f"the model has {outputs} outputs, and its loss is a sum of weighted means, which "
                f"cannot be computed in {split} parts; expected one device and accumulate=1, or "
                "losses without masks, weights and ignored classes."
            )

    def _split(self, value: Tensor) -> Tensor:
        if value is None:
            return None
        shape = tf.shape(value)
        split = tf.reshape(value, tf.concat([[self.parts, shape[0] // self.parts], shape[1:]], 0))
        rows = None if value.shape[0] is None else value.shape[0] // self.parts
        split.set_shape([self.parts, rows, *value.shape[1:]])
        return split

    def _track(self, loss: Tensor, data: Any) -> None:
        rows = tf.shape(keras.tree.flatten(data)[0])[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=rows)

    def _sum(self, values: list[Tensor]) -> list[Tensor]:
        """Sum over the devices."""
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _product(value: Tensor, count: Tensor) -> Tensor:
    """A product that is 0 if the weight is 0, even if the mean of no tokens is NaN."""
    return tf.math.multiply_no_nan(value, tf.cast(count, value.dtype))
