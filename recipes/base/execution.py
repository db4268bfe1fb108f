"""Execution options of a training: devices, precision, steps.

They do not affect what is trained: the batches, their order and the loss are the same on one device
and on several. The same configuration yields the same weights, up to rounding of sums in a
different order (and up to dropout, which draws different numbers).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from kerasrnn.recipes.base.config import Options, option
from kerasrnn.training.names import Precision, Strategy

if TYPE_CHECKING:
    from kerasrnn.training.placement import Placement


@dataclass(frozen=True)
class Execution(Options):
    """Execution options of a training."""

    strategy: str = option(
        "auto",
        "distribution: one device; all GPUs of this machine (mirrored); all workers of TF_CONFIG "
        "(multiworker); the TPU given by TPU_NAME; or the widest one available (auto)",
        choices=get_args(Strategy),
    )
    precision: str = option(
        "float32",
        "precision of the computations; weights stay float32, and float16 uses loss scaling",
        choices=get_args(Precision),
    )
    accumulate: int = option(
        1,
        "gradient accumulation: number of parts in which each batch is computed, for the same "
        "step with less memory",
        low=1,
    )
    steps_per_execution: int = option(
        1, "steps per call of the compiled function, without Python in between", low=1
    )
    deterministic: bool = option(False, "reproducible weights, also on a GPU, where this is slower")
    checkpoint_minutes: float = option(
        10.0,
        "minutes between checkpoints within an epoch; one is always written after each epoch",
        low=0.0,
    )

    RESUMABLE = ("strategy", "accumulate", "steps_per_execution", "checkpoint_minutes")
    """Options that may change when a run is resumed."""

    def placement(self) -> "Placement":
        """The devices. Call it before any other use of TensorFlow: see `Placement`.

        Raises:
            ExecutionError: the devices are not available, or TF_CONFIG is invalid.
        """
        from kerasrnn.training.placement import Placement

        return Placement(self.strategy, self.precision, self.accumulate, self.deterministic)
