"""The errors of a training."""


class BatchError(ValueError):
    """There is no complete batch, or a batch cannot be split as requested."""


class CheckpointError(RuntimeError):
    """A checkpoint is damaged, or belongs to another model."""


class DivergenceError(RuntimeError):
    """The loss or the gradients of a training are not finite."""


class ExecutionError(RuntimeError):
    """The requested devices are not available, or one was lost."""
