"""The `.ts` text format of the UEA archive: labelled series of several dimensions and any length.

    # a comment
    @timeStamps false
    @missing false
    @dimensions 2
    @classLabel true a b
    @data
    1.5,2.5,3.5:0.1,0.2,0.3:a
    7.0,8.0:-0.7,-0.8:b

A line after `@data` is one series: its dimensions separated by `:`, their values in time by `,`,
and the label last. The first series above is three steps long and the second one two.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kerasrnn.recipes.datasets.lines import line_error, split_lines
from kerasrnn.wording import counted

# Other strings that float() accepts ("nan", "inf", "1_0", " 1") are not values in this format.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Series(NamedTuple):
    """A series and its label: `values` is float32 and (steps, dimensions)."""

    values: np.ndarray
    label: str


def parse_ts(
    content: bytes, *, source: str, dimensions: int, labels: Sequence[str], count: int
) -> list[Series]:
    """Parse a `.ts` file, and check that it has the expected content.

    Series with timestamps or missing values are rejected, since no dataset here needs them.

    Args:
        content: the bytes of the file.
        source: the file's name, for messages.
        dimensions: number of values per step.
        labels: all labels, in the header's order.
        count: expected number of series, which detects truncated files.

    Raises:
        DatasetError: the file is not UTF-8 or ends within a line, its header is missing or differs
            from the arguments, or the number of series is not `count`; or a series has a different
            number of dimensions, no steps, dimensions of unequal length, a value that is not a
            finite float32, or an unknown label. The message names `source`, the line (counted from
            1), the expected and the actual content.
    """
    lines = split_lines(content, source=source)

    first = _check_header(lines, source, dimensions, labels)
    series = [
        _parse_series(line, source, number, dimensions, labels)
        for number, line in enumerate(lines[first:], start=first + 1)
    ]
    if len(series) != count:
        raise line_error(source, len(lines), f"{count} series", f"{len(series)}")
    return series


def _check_header(lines: list[str], source: str, dimensions: int, labels: Sequence[str]) -> int:
    """Return the index of the first line after `@data`."""
    expected = {
        "@timestamps": "false",
        "@missing": "false",
        "@dimensions": str(dimensions),
        "@classlabel": " ".join(["true", *labels]),
    }
    for number, line in enumerate(lines, start=1):
        key, *value = line.split() or ["#"]
        key, found = key.lower(), " ".join(value)
        if key == "@data":
            if expected:
                raise line_error(source, number, f"{next(iter(expected))} before @data", "none")
            return number
        if not key.startswith(("#", "@")):
            raise line_error(source, number, "a header line that starts with # or @", _short(line))
        # Of the other keys, one is the problem's name, and the rest follow from the series.
        if key in expected and found != (value_expected := expected.pop(key)):
            raise line_error(source, number, f"{key} {value_expected}", f"{key} {found}")
    raise line_error(source, len(lines), "@data", "the end of the file")


def _parse_series(
    line: str, source: str, number: int, dimensions: int, labels: Sequence[str]
) -> Series:
    *fields, label = line.split(":")
    if len(fields) != dimensions:
        expected = f"{dimensions} dimensions and a label, separated by colons"
        raise line_error(
            source, number, expected, f"{counted(len(fields) + 1, 'field')}: {_short(line)}"
        )
    if label not in labels:
        raise line_error(source, number, f"one of the labels {', '.join(labels)}", _short(label))

    columns = [field.split(",") if field else [] for field in fields]
    steps = len(columns[0])
    for dimension, column in enumerate(columns, start=1):
        where = f"in dimension {dimension}"
        if not column:
            raise line_error(source, number, f"at least one value {where}", "none")
        if len(column) != steps:
            expected = f"{steps} values {where}, as in dimension 1"
            raise line_error(source, number, expected, f"{len(column)}")
        for value in column:
            if not _NUMBER.fullmatch(value):
                raise line_error(source, number, f"a finite number {where}", _short(value))

    with np.errstate(over="ignore"):  # the next check names the value
        values = np.array(columns, dtype=np.float64).astype(np.float32).T
    if not np.isfinite(values).all():
        step, dimension = np.argwhere(~np.isfinite(values))[0]
        expected = f"a finite float32 in dimension {dimension + 1}"
        raise line_error(source, number, expected, _short(columns[dimension][step]))
    return Series(np.ascontiguousarray(values), label)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
