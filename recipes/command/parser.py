"""The argument parser: one-line error messages with a suggestion."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

NEAR = 0.75
"""Minimum similarity of two words for a suggestion, from 0 to 1: one letter in four may differ."""


def closest(text: str, choices: Iterable[str]) -> str:
    """The suggestion at the end of a message: `; did you mean X?`, or `.` if nothing is close."""
    # Ignore case, a common mistake that would make every letter differ.
    names = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(text.lower(), list(names), n=1, cutoff=NEAR)
    return f"; did you mean {names[matches[0]]}?" if matches else "."


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line with a suggestion.

    Its subparsers are of the same class.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviation that is unique today may be ambiguous in a later version.
        super().__init__(*arguments, **options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        # argparse writes "argument --cell: 'x': expected ...".
        message = re.sub(r"^argument ([^\s:]+)(/\S+)?: ?(?=')", r"\1 ", message)
        message = message.removeprefix("argument ")
        if "arguments are required: " in message:
            # argparse lists the optional ones, too.
            first = message.split(": ")[1].split(",")[0]
            message = f"expected {first}: see {self.prog} --help"
        self.exit(2, f"kerasrnn: {message}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Called by argparse for help and errors; argparse's own ignores a closed output."""
        (file or sys.stderr).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Called by argparse for arguments with `choices`, including commands."""
        if action.choices is not None and value not in action.choices:
            expected = ", ".join(map(str, action.choices))
            hint = closest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"{value!r}: expected one of {expected}{hint}")

    def refuse(self, unknown: Iterable[str], recipe: str | None = None) -> NoReturn:
        """Report unknown arguments."""
        messages = []
        for text in unknown:
            name = text.partition("=")[0]
            hint = closest(name, self._option_string_actions) if name.startswith("-") else "."
            messages.append(f"{text!r} is not a known argument{hint}")
        command = " ".join(filter(None, (self.prog, recipe)))
        self.error(f"{' '.join(messages)} All options: {command} --help")
