"""What a step of training translation at the size of WMT14 would take, part by part.

Nothing here was run on the devices that are named. A step's time is a sum of parts, each of which
is counted (`benchmarks.counting`) or measured (`benchmarks.scale`) and divided by a rate that is
stated.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks import counting
from benchmarks.counting import Shape
from benchmarks.scaled import LARGE, made

MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Device:
    """An accelerator, and how many of them train together."""

    name: str
    kind: str
    count: int
    peak: float
    """Operations a second in bfloat16, dense."""

    memory: float
    bandwidth: float
    """Bytes, and bytes a second, of its memory."""

    links: float
    """Bytes a second that it sends in an exchange with the others."""

    far: float
    """The same where they are more than `count`, and some in other machines."""

    in_loops: float
    """Share of the peak that a product in a time loop reaches: it has the rows of one step."""

    launch: float
    """Seconds that an operation of a time loop takes at least."""

    fused: bool
    """Whether the update is part of one program with the step, also where there are several."""


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

# What NVIDIA's published times were taken on.
A100_40 = dataclasses.replace(
    A100, name="NVIDIA A100 40GB", kind="A100", memory=40e9, bandwidth=1.555e12
)


@dataclass(frozen=True)
class Plan:
    """What is assumed besides the devices."""

    pairs: int = 4_508_785
    pieces: float = 30.0
    """Of a sentence, on either side, the end included."""

    padded: float = 0.25
    """Share of a batch that is padding."""

    epochs: int = 6
    rows: int = 128
    """Of a device."""

    at_once: float = 0.5
    """Share of the peak that products reach which all steps of time share."""

    of_bandwidth: float = 0.8
    """Share of the memory's bandwidth that is reached."""

    usable: float = 0.9
    """Share of the memory that may be filled."""

    @property
    def shape(self) -> Shape:
        """Of a device's batch, padded."""
        steps = round(self.pieces / (1 - self.padded))
        return Shape(self.rows, steps, steps)


PARTS_OF_STEP = (
    "products of all steps at once",
    "time loops: waiting",
    "time loops: work",
    "passes over logits and embeddings",
    "update of the weights",
    "exchange of the gradients",
)

HALF = 2
"""Bytes of a number in half precision."""

AROUND_EXCHANGE = 11
"""How often `recipes.step` and TensorFlow pass over the gradients before and after they are added
up: times the number of tokens, into one array, out of it, divided, looked at, and chosen."""

COPIES = 2 * counting.WIDE + HALF
"""Bytes of a weight besides those of Adam: the one array that is exchanged, there and back, and the
weight in half precision."""

OPTIONS: Mapping[str, Any] = LARGE


@cache
def model(**options: Any) -> Any:
    """The recipe's model, without numbers in its weights."""
    return counting.unfilled(lambda: made({**OPTIONS, **options}))


def step(counted: Any, plan: Plan, device: Device, measured: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each part of a step on all devices.

    Args:
        counted: the model.
        plan: what is assumed.
        device: where.
        measured: `operations` of a step of each kind of time loop, and `passes` of an update.
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
    """Seconds in which workers in a ring add up so many bytes of each.

    Each sends all but its own share twice: once to add, once to tell (Patarasuk & Yuan 2009,
    "Bandwidth optimal all-reduce algorithms for clusters of workstations").
    """
    return 2 * (workers - 1) / workers * size / links


def hours(seconds: float, plan: Plan, devices: int) -> float:
    """Of a training whose steps take so many seconds."""
    return plan.epochs * plan.pairs / (plan.rows * devices) * seconds / HOUR


def largest(counted: Any, plan: Plan, device: Device) -> int:
    """Rows of a device that its memory holds, a multiple of 8."""
    weights = sum(counting.parameters(counted).values())
    fixed = (counting.ADAM * counting.WIDE + COPIES) * weights
    row = sum(counting.kept(counted, dataclasses.replace(plan.shape, rows=1), HALF).values())
    return int((plan.usable * device.memory - fixed) // row // 8 * 8)


def plan_of(results: Mapping[str, Any]) -> Plan:
    """With the padding that was measured."""
    return Plan(padded=round(results["corpus"]["padded"], 2))


def measured_of(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operations": results["program"]["operations"],
        "passes": results["update"]["passes"],
    }


def steps(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Seconds of each part of a step, by the devices' name."""
    plan, measured = plan_of(results), measured_of(results)
    return {device.name: step(model(), plan, device, measured) for device in DEVICES}


def of_input(plan: Plan, results: Mapping[str, Any], devices: int) -> float:
    """Seconds in which a host makes the batch of a step: all of it, whatever it takes of it."""
    return plan.rows * devices * results["corpus"]["seconds_of_a_pair"]


def total(plan: Plan, device: Device, results: Mapping[str, Any]) -> float:
    """Seconds of a step; the input is made meanwhile."""
    parts = step(model(), plan, device, measured_of(results))
    return max(sum(parts.values()), of_input(plan, results, device.count))


def varied(plan: Plan, device: Device) -> dict[str, Callable[[float], tuple[Plan, Device]]]:
    """What is assumed, by name, as what becomes of it times a factor."""

    def of_plan(name: str) -> Callable[[float], tuple[Plan, Device]]:
        return lambda k: (dataclasses.replace(plan, **{name: k * getattr(plan, name)}), device)

    def of_device(name: str) -> Callable[[float], tuple[Plan, Device]]:
        return lambda k: (plan, dataclasses.replace(device, **{name: k * getattr(device, name)}))

    return {
        "pieces of a sentence": of_plan("pieces"),
        "share of the peak, products of all steps": of_plan("at_once"),
        "share of the peak, products of one step": of_device("in_loops"),
        # More than all of it there is not: what doubles is the time.
        "share of the memory's bandwidth": of_plan("of_bandwidth"),
        "time of an operation in a loop": of_device("launch"),
        "bytes a second in an exchange": of_device("links"),
        "pairs of a device": lambda k: (
            dataclasses.replace(plan, rows=round(k * plan.rows)),
            device,
        ),
    }


# Both directions' pieces a second, as NVIDIA's DeepLearningExamples publish them for GNMT v2.
PUBLISHED = {
    1: {"TensorFlow": 29_911, "PyTorch": 140_909},
    8: {"TensorFlow": 181_384, "PyTorch": 822_024},
}
GNMT = {"bidirectional": False, "embedding": 1024}
"""Options with which the recipe's model is nearly GNMT v2: that one's first layer reads in both
directions, and shares its embeddings."""

PIECES_OF_GNMT = 173_461.27 / 3_625.19 / 2
"""Of a sentence, by the log in its README: pieces, of both sides, and sentences a second."""


def checked(results: Mapping[str, Any]) -> dict[int, float]:
    """What this arithmetic says of GNMT v2: pieces a second, by how many devices there are."""
    plan = dataclasses.replace(plan_of(results), pieces=PIECES_OF_GNMT)
    said = {}
    for count in PUBLISHED:
        device = dataclasses.replace(A100_40, count=count)
        seconds = sum(step(model(**GNMT), plan, device, measured_of(results)).values())
        said[count] = 2 * plan.rows * count * plan.pieces / seconds
    return said


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[int, float]:
    return {int(size): statistics.median(those) for size, those in seconds.items()}


def of_more(found: Mapping[str, Any], count: int) -> float:
    """Seconds of an exchange between so many workers, by that between two.

    The smallest exchange is nothing but the beginning of one. A ring of more workers has as many
    times more rounds, each of which begins; the rest grows as what a worker sends.
    """
    _, start = min(medians(found["numbers"]).items())
    rest = statistics.median(found["gradients"]) - start
    return start * (count - 1) + exchange(rest, count, 1.0)
