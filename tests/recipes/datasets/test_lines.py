"""Text files: what is decoded, and how a damaged line is named."""

import pytest

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.lines import decode, line_error, split_lines


def test_lines_end_at_newlines_only():
    content = "one\u2028two\x0bthree\r\n\nvier ä\n".encode()
    assert split_lines(content, source="a.txt") == ["one\u2028two\x0bthree\r", "", "vier ä"]
    assert split_lines(b"", source="a.txt") == []


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"a\nb\xff\n", "UTF-8", "a.txt, line 2: expected UTF-8 text; found byte 0xff"),
        ("a\nb\nä\n".encode(), "ASCII", "a.txt, line 3: expected ASCII text; found byte 0xc3"),
        (b"a\nb", "UTF-8", "a.txt, line 2: expected a line end; found the end of the file"),
    ],
)
def test_damaged_files_are_errors_with_the_line_number(content, encoding, message):
    with pytest.raises(DatasetError) as error:
        split_lines(content, source="a.txt", encoding=encoding)
    assert str(error.value) == message


def test_a_text_may_end_within_a_line():
    assert decode("a\nä".encode(), source="a.txt") == "a\nä"


def test_an_error_about_a_line():
    error = line_error("a.txt", 7, "a word", "'1'")
    assert isinstance(error, DatasetError)
    assert str(error) == "a.txt, line 7: expected a word; found '1'"
