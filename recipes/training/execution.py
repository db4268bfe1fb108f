"""How a training is carried out: on which devices, in which precision, in what steps.

None of it is a matter of what is trained: the batches, their order and the loss are the same on one
device and on many, so that the same configuration ends with the same weights, but for the rounding
of sums that are added up in another order (and for dropout, which draws other numbers).
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.config import ConfigError, Options, option

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Execution(Options):
    """How a training is carried out."""

    strategy: str = option(
        "auto",
        "one device; all GPUs of this machine (mirrored); all workers of TF_CONFIG (multiworker); "
        "the TPU that TPU_NAME names; or the widest of them that there is (auto)",
        choices=STRATEGIES,
    )
    precision: str = option(
        "float32",
        "of the computations; weights stay float32, and float16 scales the loss",
        choices=PRECISIONS,
    )
    accumulate: int = option(
        1,
        "parts that each batch is computed in, one after the other, whose gradients are added up: "
        "the same step with less memory",
        low=1,
    )
    steps_per_execution: int = option(
        1, "steps that are run in one call, without Python between them", low=1
    )
    deterministic: bool = option(
        False, "the same weights each time, also on a GPU, where that is slower"
    )
    checkpoint_minutes: float = option(
        10.0, "a checkpoint is written after each epoch, and within it as often", low=0.0
    )

    RESUMABLE = ("strategy", "accumulate", "steps_per_execution", "checkpoint_minutes")
    """What a run may be resumed with another value of."""


class ExecutionError(RuntimeError):
    """The devices that were asked for cannot be had, or one was lost."""


class Placement:
    """Where a training runs: a strategy, and this process's part in it.

    Must be made before anything else of TensorFlow's: workers and TPUs must be known to its runtime
    when it starts.

    Args:
        execution: what was asked for.

    Raises:
        ExecutionError: the devices are not there, or TF_CONFIG is not what TensorFlow reads.
    """

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        if execution.deterministic:
            import tensorflow as tf

            # For the rest of this process: TensorFlow has no way back.
            tf.config.experimental.enable_op_determinism()
        chosen = execution.strategy
        if chosen == "auto":
            chosen = _widest()
        self.kind = chosen
        self.strategy: tf.distribute.Strategy | None = _STRATEGIES[chosen]()
        self.replicas = self.strategy.num_replicas_in_sync if self.strategy else 1
        cluster = _tf_config() if chosen == "multiworker" else {}
        task = cluster.get("task", {})
        members = {
            (kind, index): address
            for kind, addresses in cluster.get("cluster", {}).items()
            for index, address in enumerate(addresses)
        }
        self.workers = len(members) or 1
        self.others = [
            address
            for member, address in members.items()
            if member != (task["type"], task["index"])
        ]
        """Addresses of the other workers."""

        self.is_chief = chosen != "multiworker" or (
            task["type"] == "chief" or (task["index"] == 0 and not cluster["cluster"].get("chief"))
        )

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Where the trained model is made: its variables on the devices, its layers' precision."""
        import keras

        precision = self.execution.precision
        outside = keras.config.dtype_policy()
        with self.strategy.scope() if self.strategy else contextlib.nullcontext():
            if precision != "float32":
                keras.config.set_dtype_policy(f"mixed_{precision}")
            try:
                yield
            finally:
                keras.config.set_dtype_policy(outside)

    def compiles(self, model: "keras.Model") -> bool:
        """Whether XLA compiles whole steps: on GPUs, if all layers can. On CPUs the time loops,
        which are compiled anyway, are what gains; for a TPU, TensorFlow compiles everything."""
        import tensorflow as tf

        from kerasrnn.keras_internals import model_supports_jit

        return (
            self.kind != "tpu"
            and bool(tf.config.list_logical_devices("GPU"))
            and not self.execution.deterministic
            and model_supports_jit(model)
        )

    def check(self, batch_size: int) -> None:
        """See that a batch can be split among the devices, and in its parts.

        Raises:
            ConfigError: it cannot.
        """
        parts = self.replicas * self.execution.accumulate
        if batch_size % parts:
            raise ConfigError(
                f"batch_size={batch_size}: expected a multiple of {parts}: devices="
                f"{self.replicas} times accumulate={self.execution.accumulate}."
            )

    def described(self) -> dict[str, Any]:
        """For the run's folder."""
        return {"strategy": self.kind, "replicas": self.replicas, "workers": self.workers}


def _tf_config() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        names = cluster[task["type"]]
        if not 0 <= task["index"] < len(names):
            raise IndexError(f"index {task['index']}")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ExecutionError(
            f"TF_CONFIG={text}: expected JSON such as "
            '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}; {type(error).__name__}: {error}.'
        ) from None
    return found


def _widest() -> str:
    import tensorflow as tf

    if sum(len(those) for those in _tf_config().get("cluster", {}).values()) > 1:
        return "multiworker"
    if os.environ.get("TPU_NAME"):
        return "tpu"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one"


def _one() -> None:
    return None


def _mirrored() -> "tf.distribute.Strategy":
    import tensorflow as tf

    for kind in ("GPU", "CPU"):
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        if len(devices) > 1:
            return tf.distribute.MirroredStrategy(devices)
    found = ", ".join(device.name for device in tf.config.list_logical_devices())
    raise ExecutionError(f"--strategy mirrored: expected two devices or more; found {found}.")


def _multiworker() -> "tf.distribute.Strategy":
    import tensorflow as tf

    if not _tf_config():
        raise ExecutionError(
            "--strategy multiworker: expected the environment variable TF_CONFIG to say who the "
            "workers are; it is not set."
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu() -> "tf.distribute.Strategy":
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=os.environ.get("TPU_NAME", "")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ExecutionError(
            "--strategy tpu: expected a TPU, by the name in the environment variable TPU_NAME, or "
            f"of this machine with TPU_NAME=local; {str(error).strip()}"
        ) from None


_STRATEGIES = {
    "one": _one,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "tpu": _tpu,
}
