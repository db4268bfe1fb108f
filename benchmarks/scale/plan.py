"""Estimates of the step time, part by part, when training translation on WMT14.

Nothing was run on the devices named here. The step time is a sum of parts. Each part is a counted
(`benchmarks.scale.counting`) or measured (`benchmarks.scale`) amount divided by a stated rate.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.scale import counting
from benchmarks.scale.counting import Shape
from benchmarks.scale.job import LARGE, made

MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Device:
    """A type of accelerator and the number of them that train together."""

    name: str
    kind: str
    count: int
    peak: float
    """Dense FLOP/s in bfloat16."""

    memory: float
    bandwidth: float
    """Memory in bytes, and its bandwidth in bytes per second."""

    links: float
    """Bytes per second that it sends in an all-reduce."""

    far: float
    """The same with more than `count` devices, which are spread over several machines."""

    in_loops: float
    """Fraction of `peak` for products inside a time loop, which have the rows of one time step."""

    launch: float
    """Minimum time of an operation in a time loop, in seconds."""

    fused: bool
    """Whether step and update are one compiled program even with several devices."""


A100 = Device(
    name="8 NVIDIA A100 80GB SXM",
    kind="A100",
    count=8,
    peak=312e12,
    memory=80e9,
    bandwidth=2.039e12,
    links=200e9,
    far=25e9,
    in_loops=0.25,
    launch=3e-6,
    fused=False,
)
V5E = Device(
    name="8 TPU v5e, as 2x4",
    kind="v5e",
    count=8,
    peak=197e12,
    memory=16e9,
    bandwidth=0.819e12,
    links=100e9,
    far=100e9,
    in_loops=0.4,
    launch=1e-6,
    fused=True,
)
DEVICES = (A100, V5E)

# The device of NVIDIA's published measurements.
A100_40 = dataclasses.replace(
    A100, name="NVIDIA A100 40GB", kind="A100", memory=40e9, bandwidth=1.555e12
)


@dataclass(frozen=True)
class Plan:
    """Assumptions that do not depend on the device."""

    pairs: int = 4_508_785
    pieces: float = 30.0
    """Tokens per sentence on either side, including the end token."""

    padded: float = 0.25
    """Padding as a share of the batch."""

    epochs: int = 6
    rows: int = 128
    """Batch size per device."""

    at_once: float = 0.5
    """Fraction of the peak for products that cover all time steps."""

    of_bandwidth: float = 0.8
    """Fraction of the memory bandwidth that is achieved."""

    usable: float = 0.9
    """Fraction of the memory that may be filled."""

    @property
    def shape(self) -> Shape:
        """Shape of the padded batch of a device."""
        steps = round(self.pieces / (1 - self.padded))
        return Shape(self.rows, steps, steps)


PARTS_OF_STEP = (
    "products outside the loops",
    "time loops: latency",
    "time loops: computation",
    "passes over logits and embeddings",
    "weight update",
    "gradient all-reduce",
)

HALF = 2
"""Bytes per number in half precision."""

AROUND_EXCHANGE = 11
"""Passes of `recipes.step` and TensorFlow over the gradients before and after the all-reduce:
multiplying by the number of tokens, packing, unpacking, dividing, checking, and selecting."""

COPIES = 2 * counting.WIDE + HALF
"""Bytes per weight besides those of Adam: the send and receive buffers of the all-reduce, and the
weight in half precision."""

OPTIONS: Mapping[str, Any] = LARGE


@cache
def model(**options: Any) -> Any:
    """The recipe's model, with uninitialized weights."""
    return counting.unfilled(lambda: made({**OPTIONS, **options}))


def step(counted: Any, plan: Plan, device: Device, measured: Mapping[str, Any]) -> dict[str, float]:
    """The time of each part of a step, in seconds.

    Args:
        counted: the model.
        plan: the assumptions.
        device: the type and number of devices.
        measured: `operations` per time step for each kind of loop, and `passes` of an update.
    """
    shape, bandwidth = plan.shape, plan.of_bandwidth * device.bandwidth
    products = counting.products(counted, shape)
    weights = sum(counting.parameters(counted).values())

    def seconds(product: counting.Product, share: float) -> float:
        once = product.operations / product.times
        return max(once / (share * device.peak), product.moved(HALF) / bandwidth)

    at_once = sum(seconds(product, plan.at_once) for product in products if not product.loop)
    waiting = work = 0.0
    for loop in counting.loops(products, shape):
        operations = measured["operations"][loop.kind]
        waiting += loop.steps * operations * device.launch
        beyond = [max(seconds(p, device.in_loops) - device.launch, 0) for p in loop.products]
        work += loop.steps * (sum(beyond) + loop.extra / bandwidth)
    classes = counted.get_layer("decoder").size
    of_logits = counting.OUTPUT_PASSES * counting.WIDE * shape.rows * shape.target * classes
    # The weights are read and written in half precision, and gradients of embeddings are dense.
    of_weights = (counting.WIDE + HALF) * weights
    of_weights += counting.WIDE * counting.parameters(counted)[counting.EMBEDDINGS]
    passes = counting.FUSED_PASSES
    if device.count > 1 and not device.fused:
        passes = measured["passes"] + AROUND_EXCHANGE
    return dict(
        zip(
            PARTS_OF_STEP,
            (
                at_once,
                waiting,
                work,
                (of_logits + of_weights) / bandwidth,
                passes * counting.WIDE * weights / bandwidth,
                exchange(counting.WIDE * weights, device.count, device.links),
            ),
            strict=True,
        )
    )


def exchange(size: float, workers: int, links: float) -> float:
    """Time of a ring all-reduce of `size` bytes, in seconds.

    Each worker sends all but its own share twice: once to reduce, once to gather (Patarasuk & Yuan
    2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations").
    """
    return 2 * (workers - 1) / workers * size / links


def hours(seconds: float, plan: Plan, devices: int) -> float:
    """Hours of training, given the seconds per step."""
    return plan.epochs * plan.pairs / (plan.rows * devices) * seconds / HOUR


def largest(counted: Any, plan: Plan, device: Device) -> int:
    """The largest batch that fits in the memory of a device, a multiple of 8."""
    weights = sum(counting.parameters(counted).values())
    fixed = (counting.ADAM * counting.WIDE + COPIES) * weights
    row = sum(counting.kept(counted, dataclasses.replace(plan.shape, rows=1), HALF).values())
    return int((plan.usable * device.memory - fixed) // row // 8 * 8)


def plan_of(results: Mapping[str, Any]) -> Plan:
    """The default plan with the measured padding."""
    return Plan(padded=round(results["corpus"]["padded"], 2))


def measured_of(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operations": results["program"]["operations"],
        "passes": results["update"]["passes"],
    }


def steps(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The time of each part of a step, in seconds, by device name."""
    plan, measured = plan_of(results), measured_of(results)
    return {device.name: step(model(), plan, device, measured) for device in DEVICES}


def of_input(plan: Plan, results: Mapping[str, Any], devices: int) -> float:
    """Seconds in which a host prepares the global batch of a step; it uses only its part."""
    return plan.rows * devices * results["corpus"]["seconds_of_a_pair"]


def total(plan: Plan, device: Device, results: Mapping[str, Any]) -> float:
    """Seconds per step; the next batch is prepared concurrently."""
    parts = step(model(), plan, device, measured_of(results))
    return max(sum(parts.values()), of_input(plan, results, device.count))


def varied(plan: Plan, device: Device) -> dict[str, Callable[[float], tuple[Plan, Device]]]:
    """The assumptions by name, each as a function that scales it by a factor."""

    def of_plan(name: str) -> Callable[[float], tuple[Plan, Device]]:
        return lambda k: (dataclasses.replace(plan, **{name: k * getattr(plan, name)}), device)

    def of_device(name: str) -> Callable[[float], tuple[Plan, Device]]:
        return lambda k: (plan, dataclasses.replace(device, **{name: k * getattr(device, name)}))

    return {
        "tokens per sentence": of_plan("pieces"),
        "fraction of the peak, products outside the loops": of_plan("at_once"),
        "fraction of the peak, products inside the loops": of_device("in_loops"),
        # Doubled, this exceeds 1: read it as half the memory traffic.
        "fraction of the memory bandwidth": of_plan("of_bandwidth"),
        "time per operation in a loop": of_device("launch"),
        "bytes per second in an all-reduce": of_device("links"),
        "pairs per device": lambda k: (
            dataclasses.replace(plan, rows=round(k * plan.rows)),
            device,
        ),
    }


# Tokens per second, source and target, published for GNMT v2 in NVIDIA's DeepLearningExamples.
PUBLISHED = {
    1: {"TensorFlow": 29_911, "PyTorch": 140_909},
    8: {"TensorFlow": 181_384, "PyTorch": 822_024},
}
GNMT = {"bidirectional": False, "embedding": 1024}
"""Options that make the recipe's model nearly GNMT v2, which has a bidirectional first layer and
shares its embeddings."""

PIECES_OF_GNMT = 173_461.27 / 3_625.19 / 2
"""Tokens per sentence, from the log in its README: tokens per second of both sides, divided by
sentences per second and by two."""


def checked(results: Mapping[str, Any]) -> dict[int, float]:
    """The estimate for GNMT v2 in tokens per second, by number of devices."""
    plan = dataclasses.replace(plan_of(results), pieces=PIECES_OF_GNMT)
    speeds = {}
    for count in PUBLISHED:
        device = dataclasses.replace(A100_40, count=count)
        seconds = sum(step(model(**GNMT), plan, device, measured_of(results)).values())
        speeds[count] = 2 * plan.rows * count * plan.pieces / seconds
    return speeds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[int, float]:
    return {int(size): statistics.median(those) for size, those in seconds.items()}


def of_more(found: Mapping[str, Any], count: int) -> float:
    """Extrapolate the time of an all-reduce from two workers to `count`, in seconds.

    The time of the smallest all-reduce is taken as the startup cost of a round. A ring with more
    workers has proportionally more rounds; the rest grows with the amount that a worker sends.
    """
    _, start = min(medians(found["numbers"]).items())
    rest = statistics.median(found["gradients"]) - start
    return start * (count - 1) + exchange(rest, count, 1.0)
