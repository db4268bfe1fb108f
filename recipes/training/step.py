"""One step of training: the gradients of a batch, on one device or on many, and the update."""

from typing import Any

import keras
import tensorflow as tf

import kerasrnn
from kerasrnn.keras_internals import flatten_layers, get_keras_mask, make_variables

Tensor = Any


class Signals:
    """What a step tells its process, and a process the others: neither saved nor mirrored."""

    def __init__(self) -> None:
        self.diverged_at = tf.Variable(-1, dtype="int64", trainable=False)
        """The first step whose loss or gradients were not finite; -1: there is none."""

        self.wish = tf.Variable(0.0, trainable=False)
        """What this process wishes the others to know."""

        self.agreed = tf.Variable(0.0, trainable=False)
        """The sum of the wishes, the same in all of them after each step."""


class Trainee(keras.Model):
    """A model in training.

    A step computes the loss L of a batch and its gradients. L is a mean over what counts: over
    tokens, say, without those that are masked. Where the batch is split, among devices or into
    `parts` that are computed one after the other, each share s has its mean L_s over n_s tokens,
    and

        L = sum_s n_s L_s / sum_s n_s,    dL = sum_s n_s dL_s / sum_s n_s,

    which is the mean of the whole batch; the mean of the L_s is not, where the shares are padded
    differently. Gradients are clipped when they are added up. So a step is the same step, however
    the batch was split.

    Args:
        model: whose layers are trained, a functional or sequential one.
        signals: made outside of the scope of a strategy.
        parts: that each device computes its share in; they divide it.
        by_xla: whether XLA compiles each device's share of a step: of one device, all of it; of
            several, all but the exchange between them, which it cannot compile.
        watch_gradients: whether gradients that are not finite are an error, as the loss always is.
            With a scaled loss they are not: their step is left out.
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
        """Make all variables, those of the optimizer and the metrics too, for such batches."""
        with self.distribute_strategy.scope():
            make_variables(self, batches.element_spec)

    def compile_loops(self) -> None:
        """Have XLA compile the time loops for each length that comes.

        By themselves they are compiled where the length is known beforehand, since who pads each
        batch to its own longest would wait for the compiler more than for the training; recipes pad
        to a few.
        """
        for layer in flatten_layers(self):
            if isinstance(layer, kerasrnn.RNN) and isinstance(layer.cell, kerasrnn.Cell):
                layer.jit_compile = True

    def train_step(self, data: Any) -> dict[str, Tensor]:
        loss, gradients = self._gradients(*keras.utils.unpack_x_y_sample_weight(data))
        finite = tf.math.is_finite(loss)
        if self.watch_gradients:
            for gradient in gradients:
                finite &= tf.reduce_all(tf.math.is_finite(gradient))
            # The weights are left as they are, so that it can be found out where it began.
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
        """The loss of the whole batch and its gradients."""
        share = self._share
        if self.by_xla and self.replicas > 1:
            share = tf.function(share, jit_compile=True)
        loss, count, gradients = share(x, y, weights)
        if self.replicas > 1:
            sums = self._sum(
                [
                    _product(loss, count),
                    count,
                    tf.identity(self.signals.wish),  # on this device
                    *(_product(gradient, count) for gradient in gradients),
                ]
            )
            loss, count, wish, *gradients = sums
            self.signals.agreed.assign(wish, read_value=False)
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
            # One after the other: else the next goes forward while this one goes back, and the
            # memory of all of them is taken at once.
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
        # That of an embedding comes as a row for each lookup, and Keras would clip and square these
        # before those of an id are added up: not the norm, and not the square, of the gradient.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return loss, self._count(y, predicted, weights), gradients

    def _loss(self, x: Any, y: Any, predicted: Any, weights: Any, training: bool) -> Tensor:
        loss = self.compute_loss(x, y, predicted, weights, training=training)
        return loss * self.replicas  # Keras has divided by them

    def _count(self, y: Any, predicted: Any, weights: Any) -> Tensor:
        """What the loss is a mean over: so many numbers, or so much weight."""
        if self.replicas == 1 and self.parts == 1:
            return tf.constant(1.0)  # nothing asks
        if hasattr(self.loss, "denominator"):
            return tf.cast(self.loss.denominator(y, predicted, weights), "float32")
        mask = get_keras_mask(predicted)  # as Keras's losses find it
        if mask is not None:
            return tf.reduce_sum(tf.cast(mask, "float32"))
        return tf.cast(tf.reduce_prod(tf.shape(predicted)[:-1]), "float32")

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
        """Over the devices."""
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _product(value: Tensor, count: Tensor) -> Tensor:
    """Nothing of nothing, also where it is not a number: the mean of no tokens."""
    return tf.math.multiply_no_nan(value, tf.cast(count, value.dtype))
