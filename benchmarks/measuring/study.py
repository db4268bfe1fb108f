"""The command of a study: its options, their checks, and the conditions of the run."""

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.machine import PACKAGES, machine
from benchmarks.measuring.processes import ROOT

SHARE = 0.4  # seconds per turn of a contender
IDLE = 0.5  # the largest load of an idle machine


class Study:
    """The command of a study that times contenders in turn.

    Args:
        module: the module that runs it, such as `benchmarks.speed`.
        about: the description in its help.
        listed: further help: by title, names and their descriptions.
    """

    def __init__(self, module: str, about: str, listed: Mapping[str, Mapping[str, str]]) -> None:
        self.command = f"python -m {module}"
        lines = []
        for title, entries in listed.items():
            width = 1 + max(map(len, entries))
            lines += ["", f"{title}:", *(f"  {n:{width}} {text}" for n, text in entries.items())]
        self.options = argparse.ArgumentParser(
            self.command,
            description=about,
            epilog="\n".join(lines[1:]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.known: dict[str, Collection[str]] = {}

    def add_choice(self, name: str, known: Collection[str], text: str) -> None:
        """Add an option that selects some of the known names; by default, all."""
        self.known[name] = known
        self.options.add_argument(
            f"--{name}",
            type=words,
            default=list(known),
            metavar="LIST",
            help=f"{text} (default: all)",
        )

    def add_common(self, results: Path, rounds: int = 5) -> None:
        """Add the options of every study: `--rounds`, `--out` and `--quick`."""
        self.options.add_argument(
            "--rounds",
            type=int,
            default=rounds,
            metavar="N",
            help=f"rounds per point (default: {rounds})",
        )
        self.options.add_argument(
            "--out",
            type=Path,
            default=results,
            metavar="DIR",
            help="output folder; existing results are replaced "
            f"(default: {results.relative_to(ROOT)})",
        )
        self.options.add_argument(
            "--quick", action="store_true", help="smoke test: tiny models, one short round"
        )

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Parse the arguments, and end the program with an error if a value is not allowed."""
        chosen = self.options.parse_args(arguments)
        for name, known in self.known.items():
            for word in getattr(chosen, name):
                if word not in known:
                    self.options.error(f"--{name} {word}: expected some of {', '.join(known)}")
        if chosen.rounds < 1:
            self.options.error(f"--rounds {chosen.rounds}: expected a positive integer")
        return chosen

    def typed(self) -> str:
        """The command as the user typed it, for the report, with the backend if it is another."""
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        begin = [] if backend == "tensorflow" else [f"KERAS_BACKEND={backend}"]
        return " ".join([*begin, self.command, *sys.argv[1:]])


def words(text: str) -> list[str]:
    """Split a list separated by commas."""
    return text.split(",")


def given_options(chosen: argparse.Namespace) -> dict[str, Any]:
    """The options that affect the numbers."""
    return {name: value for name, value in vars(chosen).items() if name != "out"}


def repeats(chosen: argparse.Namespace) -> tuple[int, float]:
    """The number of rounds, and the seconds per turn of a contender."""
    return (1, 0.01) if chosen.quick else (chosen.rounds, SHARE)


def conditions(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Describe the machine, and warn if it is not idle."""
    found = machine(packages)
    if found["load"] is not None and found["load"] > IDLE:
        print(f"the machine is not idle (load {found['load']:.2f})", file=sys.stderr)
    return found
