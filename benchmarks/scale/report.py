"""The tables and the figure of `docs/scale.md`, from the estimates of `benchmarks.scale.plan`."""

import dataclasses
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale import counting
from benchmarks.scale.counting import PARTS
from benchmarks.scale.plan import (
    A100,
    A100_40,
    DEVICES,
    HALF,
    MINUTE,
    PARTS_OF_STEP,
    PUBLISHED,
    Device,
    Plan,
    checked,
    hours,
    largest,
    measured_of,
    medians,
    model,
    of_input,
    of_more,
    plan_of,
    step,
    steps,
    total,
    varied,
)

# The tables in Markdown, by the names that mark them in docs/scale.md.


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """All tables, from the measurements of `benchmarks.scale`."""
    return {
        "model": _of_model(results),
        "bytes": _of_bytes(results),
        "assumptions": _of_assumptions(results),
        "time": _of_time(results),
        "cost": _of_cost(results),
        "sensitivity": _of_sensitivity(results),
        "check": _of_check(results),
        "workers": _of_workers(results),
        "more": _of_more(results),
        "memory": _of_memory(results),
        "corpus": _of_corpus(results),
        "input": _of_input(results),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *others = (f"| {' | '.join(line)} |" for line in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *others])


def figures(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits and no exponent."""
    if not value:
        return "0"
    places = max(digits - 1 - _magnitude(value), 0)
    rounded = round(value, digits - 1 - _magnitude(value))
    return f"{rounded:,.{places}f}"


def _magnitude(value: float) -> int:
    return int(f"{abs(value):e}".partition("e")[2])


def _of_model(results: Mapping[str, Any]) -> str:
    counted, shape = model(), plan_of(results).shape
    found = counting.products(counted, shape)
    total = sum(product.operations for product in found)
    counts = counting.parameters(counted)
    rows = []
    for part in PARTS:
        mine = [product for product in found if product.part == part]
        operations = sum(product.operations for product in mine)
        inside = sum(product.operations for product in mine if product.loop)
        rows.append(
            [
                part,
                f"{counts[part] / 1e6:.1f}",
                figures(operations / 1e12) if operations else "0 (lookup)",
                f"{operations / total:.0%}",
                f"{inside / operations:.0%}" if operations else "",
            ]
        )
    inside = sum(product.operations for product in found if product.loop)
    rows.append(
        [
            "all",
            f"{sum(counts.values()) / 1e6:.1f}",
            figures(total / 1e12),
            "100%",
            f"{inside / total:.0%}",
        ]
    )
    head = (
        "part",
        "parameters, millions",
        "FLOPs per step, 10¹²",
        "share",
        "of which in time loops",
    )
    return _table(head, rows)


def _of_bytes(results: Mapping[str, Any]) -> str:
    counted, plan = model(), plan_of(results)
    shape = plan.shape
    weights = sum(counting.parameters(counted).values())
    found = counting.products(counted, shape)
    loops = counting.loops(found, shape)
    operations = results["program"]["operations"]
    row = counting.kept(counted, dataclasses.replace(shape, rows=1), HALF)
    recurrent = next(p for p in found if p.loop and p.part == counting.ENCODER)
    intensity = recurrent.operations / recurrent.times / recurrent.moved(HALF)
    total = sum(product.operations for product in found)
    kept = sum(row.values())
    used = weights - counting.parameters(counted)[counting.EMBEDDINGS]
    return _table(
        ("quantity", "value"),
        [
            ("weights, in float32", f"{counting.WIDE * weights / 1e9:.2f} GB"),
            (
                "weights, gradients and AdamW's two moments",
                f"{counting.ADAM * counting.WIDE * weights / 1e9:.2f} GB",
            ),
            (
                "activations stored for the backward pass, per pair, with matrix products in half "
                "precision",
                f"{kept / 1e6:.1f} MB (encoder {row[counting.ENCODER] / kept:.0%}, "
                f"logits {row[counting.OUTPUT] / kept:.0%})",
            ),
            (
                "all-reduced per step: every gradient, dense, in float32, including 12 bytes for "
                "the loss, the number of tokens and the workers' signals",
                f"{counting.WIDE * weights / 1e9:.2f} GB",
            ),
            (
                "sequential time steps of all loops in a training step",
                f"{sum(loop.steps for loop in loops):,}",
            ),
            (
                "sequential operations in these time steps",
                f"{sum(loop.steps * operations[loop.kind] for loop in loops):,}",
            ),
            (
                f"arithmetic intensity of a layer's recurrent product with {shape.rows} rows, in "
                "FLOPs per byte",
                f"{intensity:.0f}",
            ),
            *[
                (
                    f"intensity above which the {device.kind} is compute-bound",
                    f"{device.peak / device.bandwidth:.0f}",
                )
                for device in DEVICES
            ],
            (
                "FLOPs per parameter, embeddings excluded, for two tokens, one on either side; "
                "commonly estimated as 6",
                f"{total / (shape.rows * shape.target) / used:.1f}",
            ),
        ],
    )


def _of_assumptions(results: Mapping[str, Any]) -> str:
    plan, corpus = plan_of(results), results["corpus"]
    both = " and ".join
    words_of = [f"{1e6 * words / plan.pairs:.0f}" for words in (116, 110)]
    # Without the end of a target.
    pieces = (corpus["pieces"][0], corpus["pieces"][1] - 1)
    pieces_of = [f"{p / w:.2f}" for p, w in zip(pieces, corpus["words"], strict=True)]
    rows = [
        (
            "pairs",
            f"{plan.pairs:,}",
            "the TFDS catalog, `wmt14_translate/de-en`",
        ),
        (
            "tokens per sentence, either side",
            f"{plan.pieces:g}",
            f"116 and 110 million words (Luong, Pham & Manning 2015) are "
            f"{both(words_of)} per sentence; a word of Multi30k is {both(pieces_of)} tokens here, "
            "with a vocabulary of its own; NVIDIA's log of GNMT v2 has 24, without the longest "
            "sentences",
        ),
        (
            "padding, as a share of the batch",
            f"{plan.padded:.0%}",
            "measured: Multi30k in the recipe's buckets",
        ),
        ("epochs", f"{plan.epochs}", "as in NVIDIA's GNMT v2"),
        ("pairs per device and step", f"{plan.rows}", "as in GNMT v2, 1,024 in total"),
        (
            "fraction of the peak FLOP/s, products outside the loops",
            f"{plan.at_once:g}",
            "assumed",
        ),
        (
            "fraction of the peak FLOP/s, products inside the loops",
            _each(lambda device: f"{device.in_loops:g}"),
            "assumed: 128 rows occupy only part of a GPU",
        ),
        ("fraction of the memory bandwidth", f"{plan.of_bandwidth:g}", "assumed"),
        (
            "minimum time of an operation in a time loop, µs",
            _each(lambda device: f"{1e6 * device.launch:g}"),
            "assumed: a kernel launch; on a TPU, the next instruction",
        ),
        (
            "GB/s that a device sends in an all-reduce",
            _each(lambda device: f"{device.links / 1e9:g}"),
            "measured by others with nccl-tests; two of four links of 50 GB/s",
        ),
        (
            "time in which a host prepares a pair",
            f"{1e6 * corpus['seconds_of_a_pair']:.0f} µs",
            "measured here, on one core",
        ),
    ]
    return _table(
        ("", "quantity", "assumed value", "source"),
        [(str(n), *row) for n, row in enumerate(rows, start=1)],
    )


def _each(of: Callable[[Device], str]) -> str:
    return "; ".join(f"{device.kind}: {of(device)}" for device in DEVICES)


def _of_time(results: Mapping[str, Any]) -> str:
    parts = steps(results)
    totals = {name: sum(seconds.values()) for name, seconds in parts.items()}
    rows = []
    for part in PARTS_OF_STEP:
        cells = [part]
        for name, seconds in parts.items():
            cells.append(f"{1e3 * seconds[part]:.1f} ms ({seconds[part] / totals[name]:.0%})")
        rows.append(cells)
    plan = plan_of(results)
    rows.append(["**total**", *(f"**{1e3 * total:.0f} ms**" for total in totals.values())])
    rows.append(
        ["concurrently, on each host: the next batch"]
        + [f"{1e3 * of_input(plan, results, device.count):.0f} ms" for device in DEVICES]
    )
    return _table(["part of a step", *(device.name for device in DEVICES)], rows)


def _of_cost(results: Mapping[str, Any]) -> str:
    plan, rows = plan_of(results), []
    for device in DEVICES:
        seconds = total(plan, device, results)
        took = hours(seconds, plan, device.count)
        busy = sum(p.operations for p in counting.products(model(), plan.shape))
        rows.append(
            [
                device.name,
                f"{1e3 * seconds:.0f}",
                f"{plan.rows * device.count * plan.pieces / seconds / 1e3:,.0f},000",
                f"{busy / seconds / device.peak:.0%}",
                figures(took / plan.epochs, 2),
                figures(took, 2),
                figures(took * device.count, 2),
                f"{largest(model(), plan, device):,}",
            ]
        )
    head = (
        "devices",
        "ms per step",
        "target tokens per second",
        "fraction of peak",
        "hours per epoch",
        f"hours, {plan.epochs} epochs",
        "device hours",
        "pairs that fit on a device",
    )
    return _table(head, rows)


def _of_sensitivity(results: Mapping[str, Any]) -> str:
    plan = plan_of(results)

    def took(plan: Plan, device: Device) -> float:
        return hours(total(plan, device, results), plan, device.count)

    before = {device: took(plan, device) for device in DEVICES}
    rows = []
    for name in varied(plan, A100):
        cells = [name]
        for device in DEVICES:
            for factor in (0.5, 2.0):
                after = took(*varied(plan, device)[name](factor))
                cells.append(f"{after / before[device] - 1:+.0%}")
        rows.append(cells)
    head = ["assumption"]
    for device in DEVICES:
        head += [f"{device.kind}, halved", f"{device.kind}, doubled"]
    return _table(head, rows)


def _of_check(results: Mapping[str, Any]) -> str:
    rows = []
    for count, speed in checked(results).items():
        published = [f"{PUBLISHED[count][name]:,}" for name in ("TensorFlow", "PyTorch")]
        rows.append([f"{count} {A100_40.name}", f"{speed:,.0f}", *published])
    head = ("tokens per second, both sides", "this page", "TensorFlow", "PyTorch with cuDNN")
    return _table(head, rows)


def _of_workers(results: Mapping[str, Any]) -> str:
    found = results["workers"]
    one, alone, two = (medians(found[name]) for name in ("one", "at_once", "two"))
    rows = min(two)
    moved = statistics.median(found["gradients"])

    def line(name: str, pairs: int, seconds: float, by_addition: float | None = None) -> list[str]:
        added = "" if by_addition is None else f"{1e3 * by_addition:.0f}"
        speed = pairs / seconds
        share = speed / (rows / one[rows])
        return [name, str(pairs), f"{1e3 * seconds:.0f}", added, f"{speed:.0f}", f"{share:.2f}"]

    return _table(
        (
            "",
            "pairs per step",
            "ms per step",
            "predicted",
            "pairs per second",
            "relative to one worker",
        ),
        [
            line("one worker", rows, one[rows]),
            line("two independent processes", 2 * rows, alone[rows]),
            line("two workers, same batch each", 2 * rows, two[2 * rows], alone[rows] + moved),
            line("two workers, same total batch", rows, two[rows], alone[rows // 2] + moved),
            [
                f"the all-reduce alone, {counting.WIDE * found['exchanged'] / 1e6:.0f} MB",
                "",
                f"{1e3 * moved:.0f}",
                "",
                "",
                "",
            ],
        ],
    )


MORE = (2, 4, 8, 16)


def _of_more(results: Mapping[str, Any]) -> str:
    found = results["workers"]
    alone, two = medians(found["at_once"]), medians(found["two"])
    rows = min(two)
    rows_of_table = []
    for count in MORE:
        seconds = alone[rows] + of_more(found, count)
        measured = f"{1e3 * two[2 * rows]:.0f}" if count == 2 else ""
        share = f"{alone[rows] / seconds:.0%}"
        rows_of_table.append([str(count), f"{1e3 * seconds:.0f}", measured, share])
    head = ("workers", "ms per step, extrapolated", "measured", "share spent computing")
    return _table(head, rows_of_table)


def _of_memory(results: Mapping[str, Any]) -> str:
    found = results["memory"]
    return _table(
        ("one more pair of 48 tokens", "MB"),
        [
            (name, f"{found[key] / 1e6:.2f}")
            for name, key in (
                ("counted", "counted"),
                ("with the entire step compiled by XLA", "program"),
                ("on a CPU, where XLA compiles only the time loops", "resident"),
            )
        ],
    )


def _of_corpus(results: Mapping[str, Any]) -> str:
    found, plan = results["corpus"], plan_of(results)
    more = plan.pairs / found["pairs"]
    return _table(
        ("", "Multi30k, measured", "WMT14, scaled by the number of pairs"),
        [
            ("pairs", f"{found['pairs']:,}", f"{plan.pairs:,}"),
            (
                "time to read and tokenize the data",
                _time(found["seconds_to_load"]),
                _time(found["seconds_to_load"] * more),
            ),
            (
                "time to the first batch",
                _time(found["seconds_to_begin"]),
                _time(found["seconds_to_begin"] * more),
            ),
            (
                "host memory",
                f"{found['bytes_held'] / 1e9:.2f} GB",
                f"{found['bytes_held'] * more / 1e9:.0f} GB",
            ),
        ],
    )


def _time(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{figures(seconds, 2)} s"
    return f"{figures(seconds / MINUTE, 2)} minutes"


def _of_input(results: Mapping[str, Any]) -> str:
    plan, rows = plan_of(results), []
    for device in DEVICES:
        seconds = sum(step(model(), plan, device, measured_of(results)).values())
        most = seconds / (plan.rows * results["corpus"]["seconds_of_a_pair"])
        rows.append(
            [
                device.kind,
                f"{1e3 * seconds:.0f}",
                f"{1 / results['corpus']['seconds_of_a_pair']:,.0f}",
                f"{most:.0f}",
            ]
        )
    head = (
        "device",
        "ms per step",
        "pairs per second from one host",
        "devices that a host can feed",
    )
    return _table(head, rows)


# The page and the figure.

MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, written: Mapping[str, str]) -> str:
    """The page with its tables replaced by those in `written`.

    Raises:
        ValueError: a table is missing from the page, or marked more than once.
    """
    names = [name for _, name, _ in MARKED.findall(page)]
    if sorted(names) != sorted(written):
        raise ValueError(f"the page has tables {names}; expected each of {list(written)} once.")
    return MARKED.sub(lambda found: f"{found[1]}\n{written[found[2]]}\n\n{found[3]}", page)


COLORS = ("#4477aa", "#bb5566", "#997700", "#6699cc", "#777777", "#332288")
OF_DEVICES = ("black", "#ee7733")
FAR = (1, 2, 4, 8, 16, 32, 64)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the parts of the step time, and the throughput of more devices."""
    from matplotlib.figure import Figure

    from kerasrnn.recipes.reporting import pictures

    plan, measured = plan_of(results), measured_of(results)
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    start = dict.fromkeys(DEVICES, 0.0)
    names = [device.name.replace("NVIDIA ", "").replace(", as 2x4", "") for device in DEVICES]
    parts = {device: step(model(), plan, device, measured) for device in DEVICES}
    for part, color in zip(PARTS_OF_STEP, COLORS, strict=True):
        lengths = [1e3 * parts[device][part] for device in DEVICES]
        bars = left.barh(
            names, lengths, left=[start[device] for device in DEVICES], color=color, label=part
        )
        total = max(sum(seconds.values()) for seconds in parts.values())
        shown = [f"{length:.0f}" if length > 0.025e3 * total else "" for length in lengths]
        left.bar_label(bars, shown, label_type="center", color="white", fontsize=9)
        for device, length in zip(DEVICES, lengths, strict=True):
            start[device] += length
    left.invert_yaxis()
    left.set(xlabel="ms per step, 128 pairs per device (extrapolated)", ylim=(1.6, -0.6))
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.18), ncols=2)
    for device, color in zip(DEVICES, OF_DEVICES, strict=True):
        speeds = []
        for count in FAR:
            links = device.links if count <= device.count else device.far
            several = dataclasses.replace(device, count=count, links=links)
            speeds.append(plan.rows * count / sum(step(model(), plan, several, measured).values()))
        name = device.kind
        right.plot(FAR, speeds, "o-", color=color, markersize=4, label=name)
    limit = 1 / results["corpus"]["seconds_of_a_pair"]
    right.axhline(limit, color="black", linestyle="--", linewidth=1)
    right.text(1, 1.06 * limit, "input pipeline of one host", fontsize=9)
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=2)
    right.set_xticks(FAR, map(str, FAR))
    speeds = [1000 * 2**n for n in range(7)]
    right.set_yticks(speeds, [f"{speed:,}" for speed in speeds])
    right.set(xlabel="devices", ylabel="pairs per second (extrapolated)")
    right.grid(alpha=0.3)
    right.legend(frameon=False, loc="lower right")
    pictures.save(figure, path)


def report(results: Mapping[str, Any]) -> str:
    """The measurements, in Markdown."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    sizes = medians(results["workers"]["numbers"])
    written = tables(results)
    return "\n".join(
        [
            "# Scaling",
            "",
            "Measured with `python -m benchmarks.scale`. All numbers are in "
            "[scale.json](scale.json); [docs/scale.md](../../docs/scale.md) derives the "
            "estimates from them.",
            "",
            _table(
                ("machine", ""),
                [
                    ("processor", f"{machine['processor']}, {machine['cores']} cores"),
                    ("memory", f"{machine['memory'] / 2**30:.0f} GiB"),
                    ("system", machine["system"]),
                    ("versions", f"Python {machine['python']}, {versions}"),
                    ("date", machine["date"]),
                    ("load at the start", f"{machine['load']:.2f}"),
                ],
            ),
            "",
            "## Workers",
            "",
            "The translation recipe with its default configuration, sentences of 20 tokens, and "
            "one core per worker; medians.",
            "",
            written["workers"],
            "",
            _table(
                ("numbers in an all-reduce of two workers", "ms", "GB/s"),
                [
                    (f"{n:,}", f"{1e3 * t:.1f}", f"{counting.WIDE * n / t / 1e9:.2f}")
                    for n, t in sizes.items()
                ],
            ),
            "",
            "## Data",
            "",
            written["corpus"],
            "",
            "The pipeline prepares a batch in "
            f"{1e6 * results['corpus']['seconds_of_a_pair']:.0f} µs per pair.",
            "",
            "## Memory",
            "",
            written["memory"],
            "",
            "## The compiled program",
            "",
            _table(
                ("time loop", "matrix products and fusions per time step"),
                [(k, str(n)) for k, n in results["program"]["operations"].items()],
            ),
            "",
            f"XLA knows the trip count of {results['program']['of_known_length']} of "
            f"{results['program']['loops']} time loops. Unless its operations are fused, an update "
            f"passes over the weights {results['update']['passes']:.0f} times.",
            "",
            "![Parts of the step time, and throughput by number of devices](scale.png)",
            "",
        ]
    )
