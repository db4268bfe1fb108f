"""Execution options of a training: devices, precision, steps.

They do not affect what is trained: the batches, their order and the loss are the same on one device
and on several. The same configuration yields the same weights, up to rounding of sums in a
different order (and up to dropout, which draws different numbers).
"""

from dataclasses import dataclass

from kerasrnn.recipes.base.config import Options, option

STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Execution(Options):
    """Execution options of a training."""

    strategy: str = option(
        "auto",
        "distribution: one device; all GPUs of this machine (mirrored); all workers of TF_CONFIG "
        "(multiworker); the TPU given by TPU_NAME; or the widest one available (auto)",
        choices=STRATEGIES,
    )
    precision: str = option(
        "float32",
        "precision of the computations; weights stay float32, and float16 uses loss scaling",
        choices=PRECISIONS,
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
