"""Model cards: a recipe's results, generated from the files of its runs."""

import dataclasses
import itertools
import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrnn.files import replacing
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.base.runs import Run, RunError

COMMAND = "python -m benchmarks.quality"
"""The command that trains the variants given as arguments."""


def collect(recipe: Recipe, folders: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Collect the results of finished runs by variant.

    Raises:
        RunError: a run is unfinished, or the runs of a variant differ in more than their seeds.
    """
    variants = {}
    environments = []
    for name, of_variant in folders.items():
        configs, metrics = [], []
        for folder in of_variant:
            run, _ = Run.open(recipe, folder)
            configs.append(run.read_json("config.json")["config"])
            metrics.append(run.read_json("metrics.json"))
            environments.append(run.read_json("environment.json"))
        common = [{k: v for k, v in config.items() if k != "seed"} for config in configs]
        if any(config != common[0] for config in common):
            raise RunError(f"the runs of {name} differ in more than their seeds.")
        variants[name] = {
            "config": common[0],
            "seeds": [config["seed"] for config in configs],
            "metrics": metrics,
        }
    return {"recipe": recipe.name, "variants": variants, "environment": environments[-1]}


def card(
    recipe: Recipe,
    results: Mapping[str, Any],
    command: str,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The card in Markdown: the measured results next to baselines and published figures.

    Args:
        recipe: the trained recipe.
        results: as returned by `collect`.
        command: the command that trains the variants given as arguments.
        pictures: captions of the pictures next to the card, by file name.
    """
    # In the recipe's order, which the results file does not preserve.
    variants = {n: results["variants"][n] for n in recipe.variants if n in results["variants"]}
    names = [metric.replace("_", " ") for metric in recipe.card.metrics]
    lines = [
        f"# {recipe.name}",
        "",
        f"{recipe.card.title}. Topology: {recipe.card.topology}; dataset: `{recipe.dataset}`.",
        "",
        f"| model | {' | '.join(names)} | parameters | seconds of training |",
        "|---|" + "---|" * len(names) + "---|---|",
    ]
    for name, variant in variants.items():
        runs = variant["metrics"]
        seconds = statistics.median(run["seconds"] for run in runs)
        # Not every variant has every metric.
        figures = [
            _spread([run[m] for run in runs]) if m in runs[0] else "" for m in recipe.card.metrics
        ]
        lines.append(
            f"| {name} | {' | '.join(figures)} | {runs[0]['parameters']:,} | {seconds:,.0f} |"
        )
    first = next(iter(variants.values()))
    others = [
        *((f"baseline: {name}", figures) for name, figures in _baselines(recipe, variants)),
        *((f"published: {p.model} ({p.source})", p.metrics) for p in recipe.card.published),
    ]
    for name, metrics in others:
        figures = [figure(metrics[m]) if m in metrics else "" for m in recipe.card.metrics]
        lines.append(f"| {name} | {' | '.join(figures)} | | |")
    environment = results["environment"]
    versions = ", ".join(f"{name} {value}" for name, value in environment["versions"].items())
    shared = dict(first["config"])
    for variant in variants.values():
        shared = {k: v for k, v in shared.items() if variant["config"].get(k) == v}
    count = environment["processors"]
    lines += [
        "",
        f"{_seeds(variants)} Common to all: "
        + ", ".join(f"{name} {value}" for name, value in shared.items() if value != "")
        + ".",
        "",
        "Optimizer: AdamW. `results.json` lists the full configuration of each variant.",
        "",
        recipe.card.protocol,
        "",
        f"Measured with {_commands(recipe, variants, command)} on {count} processor"
        f"{'s' * (count != 1)} "
        f"({', '.join(environment['devices'])}), Python {environment['python']}, {versions}.",
        "",
    ]
    for name, shown in (pictures or {}).items():
        lines += [f"![{shown}]({name})", "", f"{shown}.", ""]
    return "\n".join(lines)


def write(recipe: Recipe, place: Path) -> None:
    """Write the card from the files next to it: results, and the pretrained model if any."""
    results = json.loads((place / "results.json").read_text(encoding="utf-8"))
    text = card(recipe, results, COMMAND, results.get("pictures"))
    if (place / "exports.json").is_file():
        text += "\n" + trained(recipe, place)
    with replacing(place / "CARD.md") as scratch:
        scratch.write_text(text, encoding="utf-8")


def trained(recipe: Recipe, place: Path) -> str:
    """The section of the card on the pretrained model next to it."""
    run, config = Run.open(recipe, place)
    metrics, exports = run.read_json("metrics.json"), run.read_json("exports.json")
    environment = run.read_json("environment.json")
    options = {
        field.name: value
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    }
    command = " ".join(["kerasrnn train", recipe.name, *as_arguments(options)])
    model, onnx = run.path("model.keras"), run.path(exports["file"])
    float32, small = exports["float32"], exports["int8"]
    lines = [
        "## The trained model",
        "",
        f"`zoo.load({recipe.name!r})` is the model of the variant {recipe.published_variant!r}, "
        f"seed {config.seed}: {metrics['parameters']:,} parameters, trained in "
        f"{metrics['seconds']:,.0f} s by `{command}` ({environment['started'][:10]}, commit "
        f"{(environment['commit'] or 'unknown')[:7]}). Its weights are rounded to nine significant "
        "bits. The table was measured with the files in this folder.",
        "",
        f"| file | bytes | {' | '.join(m.replace('_', ' ') for m in recipe.card.metrics)} | "
        "ms for one example |",
        "|---|---|" + "---|" * len(recipe.card.metrics) + "---|",
    ]

    def row(name: str, size: int, measured: Mapping[str, Any]) -> str:
        figures = [figure(measured[m]) if m in measured else "" for m in recipe.card.metrics]
        time = f"{measured['seconds'] * 1e3:.2f}" if "bytes" in measured else ""
        return f"| {name} | {size:,} | {' | '.join(figures)} | {time} |"

    stem = exports["file"].split(".")[0]
    lines += [
        row("model.keras", model.stat().st_size, metrics),
        row(
            f"{stem}.onnx" + ("" if onnx.name == f"{stem}.onnx" else " (not kept)"),
            float32["bytes"],
            float32,
        ),
        row(
            f"{stem}.int8.onnx" + ("" if "int8" in onnx.name else " (not kept)"),
            small["bytes"],
            small,
        ),
        "",
        _compared(stem, exports["difference"], getattr(config, "beam", 1)),
    ]
    if recipe.card.limits:
        lines += ["", f"Known limits: {recipe.card.limits}"]
    return "\n".join(lines) + "\n"


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Format options as command line arguments."""
    return [
        f"--{'' if value is not False else 'no-'}{name.replace('_', '-')}"
        + ("" if isinstance(value, bool) else f" {shlex.quote(str(value))}")
        for name, value in options.items()
    ]


def _compared(stem: str, difference: float, beam: int) -> str:
    if stem != "greedy":
        return f"The float32 ONNX file differs from the Keras model by at most {difference:.1e}."
    text = "The ONNX files decode greedily"
    if beam > 1:
        text += f", whereas the Keras model was evaluated with a beam of {beam}"
    return f"{text}; the output of the float32 file equals the Keras model's greedy output."


def _spread(values: Sequence[float]) -> str:
    """Format the mean and the range of several values."""
    if len(values) == 1:
        return figure(values[0])
    return f"{figure(statistics.mean(values))} ({figure(min(values))} to {figure(max(values))})"


def figure(value: float) -> str:
    """Format a metric: four decimals, or three significant digits if it is small."""
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"


def _baselines(
    recipe: Recipe, variants: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, dict[str, float]]]:
    """Collect baselines by name from metrics such as `baseline_majority_test_accuracy`.

    If the variants belong to several tasks, a baseline has a row for each task.
    """
    grouped: dict[str, list[tuple[dict[str, float], list[str]]]] = {}
    for variant, results in variants.items():
        for name, figures in _baselines_of(recipe, results["metrics"][0]).items():
            rows = grouped.setdefault(name, [])
            for known, those in rows:
                # One variant may lack a metric that another has.
                if all(known.get(metric, value) == value for metric, value in figures.items()):
                    known.update(figures)
                    those.append(variant)
                    break
            else:
                rows.append((figures, [variant]))
    return [
        (name if len(rows) == 1 else f"{name} ({_in_common(those)})", figures)
        for name, rows in grouped.items()
        for figures, those in rows
    ]


def _baselines_of(recipe: Recipe, metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    baselines: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        for metric in recipe.card.metrics:
            if key.startswith("baseline_") and key.endswith(f"_{metric}"):
                name = key.removeprefix("baseline_").removesuffix(f"_{metric}")
                baselines.setdefault(name.replace("_", " "), {})[metric] = value
    return baselines


def _in_common(names: Sequence[str]) -> str:
    """The common prefix of names such as `adding, T=200, GRU`, or all names."""
    parts = zip(*(name.split(", ") for name in names), strict=False)
    common = [words[0] for words in itertools.takewhile(lambda words: len(set(words)) == 1, parts)]
    return ", ".join(common) if common else "; ".join(names)


def _by_seeds(variants: Mapping[str, Mapping[str, Any]]) -> dict[tuple[int, ...], list[str]]:
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for name, variant in variants.items():
        by_seeds.setdefault(tuple(variant["seeds"]), []).append(name)
    return by_seeds


def _commands(recipe: Recipe, variants: Mapping[str, Mapping[str, Any]], command: str) -> str:
    commands = []
    for seeds, names in _by_seeds(variants).items():
        text = f"{command} {recipe.name} --seeds {len(seeds)}"
        if len(names) < len(recipe.variants):
            text += " --variants " + " ".join(map(shlex.quote, names))
        commands.append(f"`{text}`")
    return " and ".join(commands)


def _seeds(variants: Mapping[str, Mapping[str, Any]]) -> str:
    by_seeds = _by_seeds(variants)

    def described(seeds: tuple[int, ...]) -> str:
        listed = ", ".join(str(seed) for seed in seeds)
        return (
            f"one run, seed {listed}"
            if len(seeds) == 1
            else f"mean (range) over the seeds {listed}"
        )

    if len(by_seeds) == 1:
        text = described(next(iter(by_seeds)))
    else:
        # Names may contain commas.
        text = "; ".join(
            " and ".join(f'"{name}"' for name in names) + f": {described(seeds)}"
            for seeds, names in by_seeds.items()
        )
    return text[0].upper() + text[1:] + "."
