"""The `idx` binary format of MNIST and its successors: a short header and an array of bytes.

00 00 08 03    magic number: two zeros, the type (08: unsigned bytes), number of dimensions
00 00 ea 60    the sizes, big-endian 32-bit integers: 60,000 images
00 00 00 1c    of 28 rows
00 00 00 1c    of 28 pixels
00 00 ...      the values, last dimension fastest
"""

import math
import struct
from collections.abc import Sequence

import numpy as np

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.wording import counted

_UNSIGNED_BYTES = 8


def parse_idx(content: bytes, *, source: str, shape: Sequence[int]) -> np.ndarray:
    """Parse an `idx` file of unsigned bytes, and check its shape.

    Args:
        content: the bytes of the file, decompressed.
        source: the file's name, for messages.
        shape: the expected shape.

    Returns:
        A read-only uint8 array of this shape.

    Raises:
        DatasetError: the file does not begin with the magic number of unsigned bytes in this many
            dimensions, its sizes are not `shape`, or it holds more or fewer values. The message
            names `source`, what was expected and what was found.
    """
    magic = bytes([0, 0, _UNSIGNED_BYTES, len(shape)])
    if (found := content[:4]) != magic:
        raise _error(source, f"the magic number {magic.hex(' ')}", found.hex(" ") or "no byte")
    start = 4 + 4 * len(shape)
    if len(content) < start:
        raise _error(
            source, f"a header of {start} bytes", f"{counted(len(content), 'byte')} in all"
        )
    sizes = struct.unpack_from(f">{len(shape)}I", content, 4)
    if sizes != tuple(shape):
        raise _error(source, f"the sizes {_times(shape)}", _times(sizes))
    if (values := len(content) - start) != math.prod(shape):
        raise _error(source, f"{math.prod(shape)} values", f"{values}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _error(source: str, expected: str, found: str) -> DatasetError:
    return DatasetError(f"{source}: expected {expected}; found {found}")
