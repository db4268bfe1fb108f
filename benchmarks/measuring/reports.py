"""The tables and files of a report."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.summary import Target
from kerasrnn.files import replacing


def table(header: Sequence[str], rows: Collection[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return [lines[0], "|---" * len(header) + "|", *lines[1:], ""]


def machine_table(machine: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rows = [
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("memory", f"{(machine['memory'] or 0) / 2**30:.0f} GiB"),
        ("system", machine["system"]),
        ("versions", f"Python {machine['python']}, {versions}"),
        ("date", machine["date"]),
        ("load at the start", "unknown" if machine["load"] is None else f"{machine['load']:.2f}"),
    ]
    if "device" in machine:
        rows.insert(0, ("device", machine["device"]))
    return table(["machine", ""], rows)


def opening(title: str, raw: Mapping[str, Any], command: str, name: str) -> list[str]:
    """The title, how the numbers were measured, and on what machine."""
    file = f"[{name}.json]({name}.json)"
    lines = [
        f"# {title}",
        "",
        f"Measured with `{command}`. The raw numbers, by round, are in {file}.",
        "",
    ]
    if not raw["complete"]:
        lines += ["**The run was interrupted: the results are incomplete.**", ""]
    return lines + machine_table(raw["machine"])


def targets_table(rows: Collection[Target], about: str) -> list[str]:
    cells = []
    for target in rows:
        limit = "" if target.limit is None else f"≤ {target.limit:g}"
        value = "" if target.value is None else f"{target.value:.3g}"
        over = "" if not target.ratios else f"{min(target.ratios):.3g}–{max(target.ratios):.3g}"
        of = str(len(target.ratios))
        cells.append((target.text, target.judge, limit, value, over, of, target.verdict))
    header = ["target", "criterion", "limit", "measured", "lowest–highest", "points", "verdict"]
    return ["## Targets", "", about, "", *table(header, cells)]


def keep(raw: dict[str, Any], tables: str, folder: Path, name: str) -> list[Path]:
    """Write the numbers and the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    # One point per line; indentation would put every number on its own line.
    head = {key: value for key, value in raw.items() if key != "points"}
    lines = ",\n".join(json.dumps(each) for each in raw["points"])
    text = json.dumps(head, indent=2)[:-2] + f',\n  "points": [\n{lines}\n]\n}}\n'
    files = {f"{name}.json": text, f"{name}.md": tables}
    for file, content in files.items():
        with replacing(folder / file) as scratch:
            scratch.write_text(content, encoding="utf-8")
    return [folder / file for file in files]


def print_targets(targets: Sequence[Target]) -> None:
    """Print which targets are met."""
    for target in targets:
        if target.value is not None:
            limit = "" if target.limit is None else f", target {target.limit:g}: {target.verdict}"
            print(f"{target.text}: {target.judge} {target.value:.3g}{limit}")
