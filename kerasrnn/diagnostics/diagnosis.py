"""The results of a measurement of a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kerasrnn.diagnostics import pictures
from kerasrnn.diagnostics.layer_diagnosis import (
    SATURATED,
    LayerDiagnosis,
    gates_table,
    states_table,
)
from kerasrnn.diagnostics.tables import indented


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The result of `diagnose` for a model and a batch."""

    model: str
    loss: float
    weight_gradient_norm: float
    """Global norm of the loss's gradient with respect to the trainable weights."""

    axis: Literal["distance", "step"]
    """The axis of the gradients' norms."""

    layers: dict[str, LayerDiagnosis]
    """The layers in the order in which the model calls them."""

    def summary(self) -> str:
        """All results as a text table."""
        lines = [
            f"{self.model}: loss {self.loss:.4g}, norm of the weights' gradient "
            f"{self.weight_gradient_norm:.3g}"
        ]
        for layer in self.layers.values():
            lines += ["", f"{layer.name} ({layer.cell})"]
            lines += indented(states_table(layer, self.axis))
            if layer.gates or layer.kernels:
                lines += indented(gates_table(layer))
            if layer.saturated is not None:
                lines.append(f"  |candidate| > {SATURATED}: {layer.saturated.mean():.2f}")
        return "\n".join(lines)

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure` with the gradients and the gates of each layer.

        Raises:
            ImportError: matplotlib is not installed; it comes with the extra `recipes`.
        """
        return pictures.layers(self.layers, self.axis)

    def draw(self, path: str | Path) -> None:
        """Write `figure()` to a file, whose suffix determines its format.

        Raises:
            ImportError: matplotlib is not installed; it comes with the extra `recipes`.
        """
        pictures.save(self.figure(), path)
