"""The user's own tables: tab-separated or CSV files, and lines of numbers.

The reader accepts what common programs write: unquoted rows, as from Tatoeba and Anki, and rows
quoted by pandas and Excel.
"""

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrnn.recipes.base.errors import DatasetError, DatasetWarning
from kerasrnn.recipes.tasks.text import read_text

if TYPE_CHECKING:
    import numpy as np

Row = tuple[int, list[str]]
"""The first line number of a row, and its fields."""

NAMES = """class category input label output phonemes pronunciation review sentence sentiment sounds
source src target text tgt translation trg word"""
LANGUAGES = """arabic chinese czech danish dutch english finnish french german greek hebrew hindi
hungarian italian japanese korean norwegian polish portuguese romanian russian spanish swedish
turkish ukrainian vietnamese"""
HEADERS = (frozenset(NAMES.split()), frozenset(LANGUAGES.split()))
"""Known column names: all fields of a header are in one of these sets."""

QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_rows(path: str | Path, columns: Sequence[str]) -> list[Row]:
    """Read the rows of a file.

    In a `*.csv` file, fields are separated by commas, or by semicolons if the first line has no
    comma, and quoted according to RFC 4180. In any other file, fields are separated by tabs; quotes
    are removed if a program has added them: if a quote within the field is doubled, or if every
    field of the file is quoted.

    Blank lines are skipped. A first line with column names is a header; if it has all the requested
    names, these columns are read, in any order. If two columns are requested, the additional
    columns of Anki's and Tatoeba's files are ignored: the attribution in a third column, and the
    sentence numbers. A `DatasetWarning` names what is ignored.

    Args:
        path: of the file.
        columns: the names of the columns, in order.

    Raises:
        DatasetError: the file cannot be read; or a line, which the message names, has unexpected
            columns or an empty one.
    """
    path = Path(path)
    text = read_text(path)
    rows = _of_commas(path, text) if path.suffix.lower() == ".csv" else _of_tabs(text)
    rows = [(line, [field.strip() for field in fields]) for line, fields in rows]
    rows = _of_header(path, rows, columns)
    if len(columns) == 2:
        rows = _without_attributions(path, rows)
    for line, fields in rows:
        if len(fields) != len(columns):
            apart = "commas" if path.suffix.lower() == ".csv" else "tabs"
            hint = ""
            if len(fields) == 1 and apart == "tabs" and "," in fields[0]:
                hint = " If its columns are separated by commas, its name must end in .csv."
            raise DatasetError(
                f"{path}, line {line}: expected {len(columns)} columns separated by {apart} "
                f"({', '.join(columns)}); found {len(fields)}.{hint}"
            )
    for line, fields in rows:
        for name, field in zip(columns, fields, strict=True):
            if not field:
                raise DatasetError(f"{path}, line {line}: the column {name} is empty.")
    return rows


def read_numbers(path: str | Path, columns: int, noun: str) -> "np.ndarray":
    """Read lines of numbers, separated by spaces or commas. Blank lines are skipped.

    Args:
        path: of the file.
        columns: the expected count of numbers per line.
        noun: the noun for the numbers, in the plural.

    Returns:
        float32 `(lines, columns)`.

    Raises:
        DatasetError: the file cannot be read; or a line, which the message names, has another count
            of numbers, or one that is not a finite float32.
    """
    import numpy as np

    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        values = line.replace(",", " ").split()
        if len(values) != columns:
            raise DatasetError(
                f"{path}, line {number}: expected {columns} {noun}; found {len(values)}."
            )
        row = []
        for column, value in enumerate(values, start=1):
            try:
                row.append(float(value))
            except ValueError:
                row.append(np.nan)
            # Models read single precision, whose range is smaller.
            if not abs(row[-1]) <= float(np.finfo("float32").max):
                raise DatasetError(
                    f"{path}, line {number}, column {column}: expected a finite number; found "
                    f"{value!r}."
                )
        rows.append(row)
    return np.array(rows, "float32")


def _remark(message: str) -> None:
    warnings.warn(message, DatasetWarning, stacklevel=4)


def _of_header(path: Path, rows: list[Row], columns: Sequence[str]) -> list[Row]:
    """The rows after a header, with the requested columns."""
    if len(rows) < 2:
        return rows
    line, fields = rows[0]
    names = [field.lower() for field in fields]
    if len(set(names)) < len(names):
        return rows
    place = f"{path}, line {line}"
    if set(columns) <= set(names):
        wanted = [names.index(name) for name in columns]
        others = [field for n, field in enumerate(fields) if n not in wanted]
        for number, row in rows[1:]:
            if len(row) != len(names):
                raise DatasetError(
                    f"{path}, line {number}: expected {len(names)} columns, as in the header; "
                    f"found {len(row)}."
                )
        _remark(
            f"{place} is a header. Columns read: {', '.join(columns)}"
            f"{'; ignored: ' + ', '.join(others) if others else ''}."
        )
        return [(number, [row[n] for n in wanted]) for number, row in rows[1:]]
    if any(set(names) <= known for known in HEADERS):
        _remark(f"{place}: {', '.join(fields)} is a header, which is skipped.")
        return rows[1:]
    return rows


def _of_tabs(text: str) -> list[Row]:
    rows = [
        (number, [field.strip() for field in line.split("\t")])
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    every = all(QUOTED.fullmatch(field) for _, fields in rows for field in fields)

    def plain(field: str) -> str:
        if QUOTED.fullmatch(field) and (every or '""' in field[1:-1]):
            return field[1:-1].replace('""', '"')
        return field

    return [(number, [plain(field) for field in fields]) for number, fields in rows]


def _of_commas(path: Path, text: str) -> list[Row]:
    first = QUOTED.sub("", text[:10_000]).strip().split("\n", 1)[0]
    delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, begin = [], 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                rows.append((begin, fields))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{path}, line {begin}: expected a row of CSV; {error}.") from None
    return rows


def _without_attributions(path: Path, rows: list[Row]) -> list[Row]:
    """The two text columns of Anki's and Tatoeba's files, if the rows have that format."""
    if rows and all(len(fields) == 3 and "tatoeba" in fields[2].lower() for _, fields in rows):
        _remark(f"{path}: the third column, the attribution, is ignored.")
        return [(line, fields[:2]) for line, fields in rows]
    if rows and all(
        len(fields) == 4 and fields[0].isdecimal() and fields[2].isdecimal() for _, fields in rows
    ):
        _remark(f"{path}: the first and the third column, sentence numbers, are ignored.")
        return [(line, fields[1::2]) for line, fields in rows]
    return rows
