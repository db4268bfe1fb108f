"""Devices of a training: a distribution strategy, and this process's role in it."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kerasrnn import validation
from kerasrnn.training.errors import BatchError, ExecutionError
from kerasrnn.training.names import Precision, Strategy
from kerasrnn.validation import PositiveInteger

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Placement:
    """The devices of a training: a strategy, and this process's role in it.

    Create it before any other use of TensorFlow: its runtime registers workers and TPUs only when
    it starts.

    Args:
        strategy: "one" device; "mirrored": all GPUs of this machine, or all its logical devices;
            "multiworker": all workers of the environment variable TF_CONFIG; "tpu": the TPU named
            by TPU_NAME; "auto": the widest one available.
        precision: precision of the computations. Weights stay float32; "float16" uses loss scaling.
        accumulate: number of parts in which each batch is computed on a device.
        deterministic: whether weights are reproducible on GPUs too, where this is slower. It holds
            for the rest of the process.

    Attributes:
        replicas: number of devices that share a batch.
        workers: number of processes.
        is_chief: whether this process writes checkpoints and logs.

    Raises:
        ExecutionError: the devices are not available, or TF_CONFIG is invalid.
        ValueError: an argument is invalid.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.training.Placement("one").described()
        {'strategy': 'one', 'replicas': 1, 'workers': 1}
    """

    @validation.checked
    def __init__(
        self,
        strategy: Strategy = "auto",
        precision: Precision = "float32",
        accumulate: PositiveInteger = 1,
        deterministic: bool = False,
    ) -> None:
        self.precision, self.accumulate = precision, accumulate
        self.deterministic = deterministic
        if deterministic:
            import tensorflow as tf

            # For the rest of this process: TensorFlow cannot revert it.
            tf.config.experimental.enable_op_determinism()
        chosen = _widest() if strategy == "auto" else strategy
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
        """A context for building the model: variables on the devices, precision of the layers."""
        import keras

        outside = keras.config.dtype_policy()
        with self.strategy.scope() if self.strategy else contextlib.nullcontext():
            if self.precision != "float32":
                keras.config.set_dtype_policy(f"mixed_{self.precision}")
            try:
                yield
            finally:
                keras.config.set_dtype_policy(outside)

    def compiles(self, model: "keras.Model") -> bool:
        """Whether XLA compiles entire steps: on GPUs, if all layers support it. On CPUs, only the
        time loops benefit, which are compiled anyway; for TPUs, TensorFlow compiles everything."""
        import tensorflow as tf

        from kerasrnn.keras_internals import model_supports_jit

        return (
            self.kind != "tpu"
            and bool(tf.config.list_logical_devices("GPU"))
            and not self.deterministic
            and model_supports_jit(model)
        )

    def check(self, batch_size: int) -> None:
        """Check that a batch can be split among the devices and into its parts.

        Raises:
            BatchError: the batch cannot be split.
        """
        parts = self.replicas * self.accumulate
        if batch_size % parts:
            raise BatchError(
                f"batch_size={batch_size}: expected a multiple of {parts}: devices="
                f"{self.replicas} times accumulate={self.accumulate}."
            )

    def described(self) -> dict[str, Any]:
        """Strategy, replicas and workers, for records."""
        return {"strategy": self.kind, "replicas": self.replicas, "workers": self.workers}


def _tf_config() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return {}
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        names = cluster[task["type"]]
        if not 0 <= task["index"] < len(names):
            raise IndexError(f"index {task['index']}")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ExecutionError(
            f"TF_CONFIG={text}: expected JSON such as "
            '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}; {type(error).__name__}: {error}.'
        ) from None
    return config


def _widest() -> str:
    import tensorflow as tf

    if sum(len(addresses) for addresses in _tf_config().get("cluster", {}).values()) > 1:
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
    names = ", ".join(device.name for device in tf.config.list_logical_devices())
    raise ExecutionError(f"strategy='mirrored': expected two devices or more; found {names}.")


def _multiworker() -> "tf.distribute.Strategy":
    import tensorflow as tf

    if not _tf_config():
        raise ExecutionError(
            "strategy='multiworker': expected the environment variable TF_CONFIG with the "
            "addresses of the workers; it is not set."
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
            "strategy='tpu': expected the name of a TPU in the environment variable TPU_NAME, or "
            f"TPU_NAME=local for a TPU of this machine; {str(error).strip()}"
        ) from None


_STRATEGIES = {
    "one": _one,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "tpu": _tpu,
}
