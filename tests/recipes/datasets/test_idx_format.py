"""The `idx` format: its values, and files that are not what they should be."""

import numpy as np
import pytest

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.idx_format import parse_idx

HEADER = bytes.fromhex("00000803 00000002 00000001 00000003")
CONTENT = HEADER + bytes([0, 1, 2, 253, 254, 255])


def test_values_are_in_row_major_order():
    array = parse_idx(CONTENT, source="images", shape=(2, 1, 3))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, [[[0, 1, 2]], [[253, 254, 255]]])


def test_labels_have_one_dimension():
    content = bytes.fromhex("00000801 00000102") + bytes(258)
    np.testing.assert_array_equal(parse_idx(content, source="labels", shape=(258,)), np.zeros(258))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "images: expected the magic number 00 00 08 03; found no byte"),
        (b"\x1f\x8b\x08\x00", "expected the magic number 00 00 08 03; found 1f 8b 08 00"),
        (bytes.fromhex("00000801"), "expected the magic number 00 00 08 03; found 00 00 08 01"),
        (bytes.fromhex("00000d03"), "expected the magic number 00 00 08 03; found 00 00 0d 03"),
        (HEADER[:-1], "expected a header of 16 bytes; found 15 bytes in all"),
        (HEADER[:-1] + b"\4" + bytes(8), "expected the sizes 2 x 1 x 3; found 2 x 1 x 4"),
        (CONTENT[:-1], "expected 6 values; found 5"),
        (CONTENT + b"\0", "expected 6 values; found 7"),
    ],
)
def test_errors_name_what_is_wrong(content, message):
    with pytest.raises(DatasetError, match=message):
        parse_idx(content, source="images", shape=(2, 1, 3))
