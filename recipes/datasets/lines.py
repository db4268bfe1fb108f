"""Text files of datasets: decoding, splitting into lines, and errors that name the line."""

from kerasrnn.recipes.base.errors import DatasetError


def decode(content: bytes, *, source: str, encoding: str = "UTF-8") -> str:
    """Decode a text file.

    Args:
        content: the bytes of the file.
        source: the file's name, for messages.
        encoding: "UTF-8" or "ASCII".

    Raises:
        DatasetError: the content has another encoding. The message names `source`, the line
            (counted from 1) and the byte.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte {content[error.start]:#04x}"
        raise line_error(source, line, f"{encoding} text", found) from None


def split_lines(content: bytes, *, source: str, encoding: str = "UTF-8") -> list[str]:
    r"""Decode a text file, each line of which ends with a newline; returns the lines without it.

    Args:
        content: the bytes of the file.
        source: the file's name, for messages.
        encoding: "UTF-8" or "ASCII".

    Raises:
        DatasetError: the content has another encoding, or ends within a line. The message names
            `source`, the line (counted from 1), the expected and the actual content.

    Example:

        >>> split_lines(b"one\ntwo\n", source="numbers.txt")
        ['one', 'two']
    """
    # Split only at newlines: str.splitlines also splits at characters that a text may contain.
    *lines, rest = decode(content, source=source, encoding=encoding).split("\n")
    if rest:
        raise line_error(source, len(lines) + 1, "a line end", "the end of the file")
    return lines


def line_error(source: str, line: int, expected: str, found: str) -> DatasetError:
    """The error about a line of a file, counted from 1."""
    return DatasetError(f"{source}, line {line}: expected {expected}; found {found}")
