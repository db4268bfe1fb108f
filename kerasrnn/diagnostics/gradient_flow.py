"""Measurements during training."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.diagnostics import pictures
from kerasrnn.diagnostics.diagnosis import Diagnosis
from kerasrnn.diagnostics.measurement import check_inputs, diagnose
from kerasrnn.validation import PositiveInteger


class GradientFlow(keras.callbacks.Callback):
    """Measures the gradient flow through the recurrent layers during training.

    Calls `diagnose` on the same batch before the first epoch of a `fit` and after every `every`-th
    one. Training is not affected: with and without the callback, the final weights are identical,
    bit for bit.

    With `log_dir` the measurements are written to TensorBoard, at the number of epochs trained:

    - for each state of a layer, the gradient's norm at the loss and at the far end of the sequence,
      and the memory, if it is finite;
    - for each gate, the saturated fractions;
    - for each block of the recurrent kernel, the spectral radius;
    - the figure of `Diagnosis.figure`.

    Args:
        x: a batch of inputs, as passed to the model.
        y: its targets.
        loss: see `diagnose`; default: the loss that the model is compiled with.
        every: the number of epochs between two measurements.
        steps: see `diagnose`.
        log_dir: folder for TensorBoard; None: nothing is written.

    Attributes:
        history: every `Diagnosis` by the number of epochs trained before it.

    Raises:
        ValueError: `every` is not a positive integer; during training, see `diagnose`.
        ImportError: `log_dir` without matplotlib and TensorBoard; they come with the extra
            `recipes`.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> x, y = np.ones((8, 12, 2), "float32"), np.ones((8, 1), "float32")
        >>> model = keras.Sequential(
        ...     [keras.Input((None, 2)), kerasrnn.GRU(4), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> flow = kerasrnn.diagnostics.GradientFlow(x[:4], y[:4])
        >>> _ = model.fit(x, y, epochs=2, verbose=0, callbacks=[flow])
        >>> list(flow.history)
        [0, 1, 2]
    """

    @validation.checked
    def __init__(
        self,
        x: Any,
        y: Any = None,
        loss: str | Callable[..., Any] | None = None,
        *,
        every: PositiveInteger = 1,
        steps: Literal["last", "all"] = "last",
        log_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_inputs(x)
        self.x, self.y, self.loss = x, y, loss
        self.every, self.steps = every, steps
        self.history: dict[int, Diagnosis] = {}
        self._writer: Any = None
        if log_dir is not None:
            pictures.check_installed()
            self._writer = _writer(log_dir)

    def on_train_begin(self, logs: Any = None) -> None:
        self._begins = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._begins:  # here, where the number of epochs before resuming is known
            self._begins = False
            self.history = {n: old for n, old in self.history.items() if n < epoch}
            self._measure(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.every == 0:
            self._measure(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.flush()

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure` of the gradients' norms by distance, one curve per epoch.

        Raises:
            ImportError: matplotlib is not installed; it comes with the extra `recipes`.
            ValueError: nothing has been measured yet.
        """
        if not self.history:
            raise ValueError(
                "no epoch has been measured; expected a call of fit with this callback."
            )
        (axis,) = {diagnosis.axis for diagnosis in self.history.values()}
        layers = {epoch: diagnosis.layers for epoch, diagnosis in self.history.items()}
        return pictures.flow(layers, axis)

    def draw(self, path: str | Path) -> None:
        """Write `figure()` to a file, whose suffix determines its format.

        Raises:
            ImportError: matplotlib is not installed; it comes with the extra `recipes`.
            ValueError: nothing has been measured yet.
        """
        pictures.save(self.figure(), path)

    def _measure(self, epoch: int) -> None:
        diagnosis = diagnose(self.model, self.x, self.y, self.loss, steps=self.steps)
        self.history[epoch] = diagnosis
        if self._writer is not None:
            with self._writer.as_default(epoch):
                _write(diagnosis)


def _writer(log_dir: str | Path) -> Any:
    import tensorflow as tf

    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"log_dir={str(log_dir)!r}: TensorBoard is not installed; install it "
            "with `pip install 'kerasrnn[recipes]'`."
        ) from error
    return tf.summary.create_file_writer(str(log_dir))


def _write(diagnosis: Diagnosis) -> None:
    """Write to the default summary writer and step."""
    import tensorflow as tf

    for layer in diagnosis.layers.values():
        values = {}
        for state in layer.states.values():
            values[f"d{state.name}/at_the_loss"] = state.gradient_norms[0]
            values[f"d{state.name}/farthest"] = state.gradient_norms[-1]
            values[f"d{state.name}/memory"] = state.memory
        for gate in layer.gates.values():
            values[f"{gate.name}/below_0.1"] = gate.low.mean()
            values[f"{gate.name}/above_0.9"] = gate.high.mean()
        for kernel in layer.kernels.values():
            values[f"{kernel.gate}/spectral_radius"] = kernel.spectral_radius
        if layer.saturated is not None:
            values["candidate/saturated"] = layer.saturated.mean()
        for name, value in values.items():
            if np.isfinite(value):
                tf.summary.scalar(f"{layer.name}/{name}", value)
    png = io.BytesIO()
    diagnosis.figure().savefig(png, format="png")
    tf.summary.image("gradient flow", tf.image.decode_png(png.getvalue(), channels=4)[None])
