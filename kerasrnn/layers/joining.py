"""Joins several sequences step by step, and repeats vectors that are the same at all steps."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class JoinedSteps(BaseLayer):
    """Concatenates sequences step by step, with vectors that are the same at all steps.

        x_t = [x^1_t, ..., x^n_t, v^1, ..., v^m]

    Args:
        sequences: n, the number of sequences; the tensors after them are vectors.

    Call arguments:
        inputs: n sequences, `(batch, time, features)` each, followed by m vectors, `(batch,
            features)` each. Numbers of features may differ; numbers of steps may not.

    Returns:
        `(batch, time, sum of all features)`.

    Masking: a step is valid if it is valid in all sequences that have a mask. In contrast,
    `keras.layers.Concatenate` (Keras 3.15) returns a mask in which a step is valid if it is valid
    in one of them.

    Raises:
        ValueError: there are fewer tensors than sequences, a tensor has another rank, or the
            sequences have different numbers of steps.
    """

    @validation.checked
    def __init__(self, sequences: PositiveInteger, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sequences = sequences
        self.supports_masking = True

    def build(self, inputs_shape: Any) -> None:
        self._check(inputs_shape)
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        self._check([x.shape for x in inputs])
        sequences, vectors = inputs[: self.sequences], inputs[self.sequences :]
        steps = ops.shape(sequences[0])[1]
        repeated = [ops.repeat(ops.expand_dims(v, 1), steps, axis=1) for v in vectors]
        return ops.concatenate([*sequences, *repeated], axis=-1)

    def compute_mask(self, inputs: Sequence[Tensor], mask: Any = None) -> Tensor | None:
        masks = [each for each in (mask or [])[: self.sequences] if each is not None]
        return functools.reduce(ops.logical_and, masks) if masks else None

    def compute_output_shape(self, inputs_shape: Any) -> tuple[int | None, ...]:
        steps = [shape[1] for shape in inputs_shape[: self.sequences] if shape[1] is not None]
        features = sum(shape[-1] for shape in inputs_shape)
        return (inputs_shape[0][0], steps[0] if steps else None, features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sequences": self.sequences}

    def _check(self, shapes: Sequence[Any]) -> None:
        if len(shapes) < self.sequences:
            raise ValueError(
                f"{self.name}: {len(shapes)} tensors; expected at least {self.sequences}."
            )
        for n, shape in enumerate(shapes):
            axes = ("batch", "time", "features") if n < self.sequences else ("batch", "features")
            if len(shape) != len(axes):
                raise ValueError(
                    f"{self.name}: tensor {n} has the shape {tuple(shape)}; expected "
                    f"({', '.join(axes)})."
                )
        steps = [shape[1] for shape in shapes[: self.sequences] if shape[1] is not None]
        if len(set(steps)) > 1:
            raise ValueError(
                f"{self.name}: the sequences have {', '.join(map(str, steps))} steps; expected "
                "equal numbers."
            )
