"""What decoders of label sequences share: the results that they return."""

from typing import Any, NamedTuple

import keras

from kerasrnn.base_layer import BaseLayer

Tensor = Any


class Labels(NamedTuple):
    """Label sequences. With `n_best`, the second axis has those of a row, the best first."""

    labels: Tensor
    """int32 `(batch, width)`, padded with the blank."""

    lengths: Tensor
    """int32 `(batch,)`"""

    scores: Tensor
    """float32 `(batch,)`"""

    times: Tensor
    """int32 `(batch, width)`: the frame at which each label begins; -1 for padding."""


class LabelDecoder(BaseLayer):
    """The base class of layers from the outputs of a model to label sequences."""

    n_best: int | None = None

    def __init__(
        self, return_lengths: bool, return_scores: bool, return_times: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.return_lengths = return_lengths
        self.return_scores = return_scores
        self.return_times = return_times
        self.supports_masking = True

    def compute_mask(self, outputs: Any, mask: Any = None) -> None:
        """No mask is passed on: labels have other steps than the frames."""

    def _spec(self, batch: int | None, width: int | None) -> Any:
        """What is returned, symbolically."""
        rows = (batch,) if self.n_best is None else (batch, self.n_best)
        spec = keras.KerasTensor
        return self._requested(
            Labels(
                spec((*rows, width), "int32"),
                spec(rows, "int32"),
                spec(rows, "float32"),
                spec((*rows, width), "int32"),
            )
        )

    def _requested(self, found: Labels) -> Any:
        results = [found.labels]
        results += [found.lengths] if self.return_lengths else []
        results += [found.scores] if self.return_scores else []
        results += [found.times] if self.return_times else []
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "return_lengths": self.return_lengths,
            "return_scores": self.return_scores,
            "return_times": self.return_times,
        }
