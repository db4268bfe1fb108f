"""Tables and numbers of a user's own, as other programs write them."""

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn.recipes.base.errors import DatasetError, DatasetWarning
from kerasrnn.recipes.tasks.tables import read_numbers, read_rows

COLUMNS = ("source", "target")


def write(folder, content, name="mine.tsv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rows_have_line_numbers(tmp_path):
    path = write(tmp_path, b"good\ta film \r\n\r\n  \n bad\tanother: one\n")
    assert read_rows(path, COLUMNS) == [(1, ["good", "a film"]), (4, ["bad", "another: one"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a\tb\n\na\n",
            r"line 3: expected 2 columns separated by tabs \(source, target\); found 1",
        ),
        ("a\tb\nc\td\te\n", "line 2: expected 2 columns separated by tabs .*; found 3"),
        ("a\tb\nc\t \n", "line 2: the column target is empty"),
        ("\tb\n", "line 1: the column source is empty"),
        ("a,b\n", "line 1: expected 2 columns .*; found 1.* must end in .csv"),
        # A third column that is no attribution, or not in every row.
        ("a\tb\tc\n" * 2, "line 1: expected 2 columns .*; found 3"),
        ("a\tb\ttatoeba.org\nc\td\n", "line 1: expected 2 columns .*; found 3"),
        ("id\tsource\ttarget\n1\ta\tb\n2\tc\n", "line 3: expected 3 columns, as in the header"),
    ],
)
def test_invalid_rows_are_errors(tmp_path, content, message):
    with pytest.raises(DatasetError, match=f"mine.tsv, {message}"):
        read_rows(write(tmp_path, content), COLUMNS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n"c,d\n', "line 2: expected a row of CSV; "),
        ('a,b\n"c"d,e\n', "line 2: expected a row of CSV; "),
        ('a,"b\nc"\nd\n', r"line 3: expected 2 columns separated by commas .*; found 1"),
    ],
)
def test_files_that_are_not_csv(tmp_path, content, message):
    with pytest.raises(DatasetError, match=f"mine.csv, {message}"):
        read_rows(write(tmp_path, content, "mine.csv"), COLUMNS)


fields = st.text('aä",;\n ', min_size=1).filter(str.strip).map(str.strip)


@given(st.lists(st.tuples(fields, fields), min_size=1, max_size=4), st.sampled_from(",;"))
def test_csv_files_round_trip(tmp_path_factory, rows, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    path = write(tmp_path_factory.mktemp("csv"), file.getvalue(), "mine.CSV")
    read = [tuple(field.replace("\r\n", "\n") for field in row) for _, row in read_rows(path, "ab")]
    assert read == rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_quotes_written_by_a_program(tmp_path, quoting):
    rows = [["“Hi”", 'say "hi"'], ['"Hi."', "'hi'"], ["it's", 'an inch is 1"'], ['"', "a"]]
    file = io.StringIO(newline="")
    csv.writer(file, "excel-tab", quoting=quoting).writerows(rows)
    found = read_rows(write(tmp_path, file.getvalue()), COLUMNS)
    assert [row for _, row in found] == rows


def test_quotes_that_belong_to_a_text(tmp_path):
    """Nobody has put these: they stay."""
    lines = ['"Go!"\the said', '"Go!" and "run!"\tx', 'an inch "\t"', '""\t"" and ""']
    found = read_rows(write(tmp_path, "\n".join(lines)), COLUMNS)
    assert [row for _, row in found] == [line.split("\t") for line in lines]


@pytest.mark.parametrize(
    ("header", "lines", "expected", "remark"),
    [
        (
            "source\ttarget",
            ["a\tb"],
            ["a", "b"],
            "header. Columns read: source, target.",
        ),
        (
            "Target\tSource",
            ["a\tb"],
            ["b", "a"],
            "header. Columns read: source, target.",
        ),
        ("target\tid\tsource", ["a\t1\tb"], ["b", "a"], "source, target; ignored: id."),
        ("English\tFrench", ["a\tb"], ["a", "b"], "line 1: English, French is a header, which is"),
        ("word\tphonemes", ["a\tb"], ["a", "b"], "line 1: word, phonemes is a header"),
        # Of Anki's decks, and of Tatoeba's pairs of sentences.
        (
            "Go.\tVa !\tCC-BY 2.0, tatoeba.org #1",
            [],
            ["Go.", "Va !"],
            "the attribution, is ignor",
        ),
        ("1276\tGo.\t3091\tVa !", [], ["Go.", "Va !"], "sentence numbers, are ignored"),
    ],
)
def test_what_is_not_read_is_reported(header, lines, expected, remark, tmp_path):
    path = write(tmp_path, "\n".join([header, *lines]))
    with pytest.warns(DatasetWarning, match=f"mine.tsv.*{re.escape(remark)}"):
        rows = read_rows(path, COLUMNS)
    assert rows == [(1 + len(lines), expected)]


def test_a_first_line_that_is_not_a_header(tmp_path):
    path = write(tmp_path, "word\tword\nEnglish\tenglisch\n")
    assert [row for _, row in read_rows(path, COLUMNS)] == [["word"] * 2, ["English", "englisch"]]
    assert read_rows(write(tmp_path, "source\ttarget\n"), COLUMNS) == [(1, ["source", "target"])]


def test_numbers_are_read_line_by_line(tmp_path):
    path = tmp_path / "frames.csv"
    path.write_text("1, 2.5\n\n-3e2 4\n", encoding="utf-8")
    found = read_numbers(path, 2, "numbers")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, 2.5], [-300, 4]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2\n3\n", "line 2: expected 2 numbers; found 1"),
        ("1 2\n3 x\n", "line 2, column 2: expected a finite number; found 'x'"),
        ("inf 2\n", "line 1, column 1: expected a finite number; found 'inf'"),
        ("1 1e39\n", "line 1, column 2: expected a finite number; found '1e39'"),
    ],
)
def test_invalid_numbers_are_errors(tmp_path, content, message):
    path = tmp_path / "frames.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_numbers(path, 2, "numbers")
