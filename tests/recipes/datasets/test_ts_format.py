"""What the parser reads is what was written, and what is malformed is refused by name and line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.ts_format import parse_ts

HEADER = (
    "# two dimensions\n\n@timeStamps false\n@missing false\n@dimensions 2\n@classLabel true a b\n"
)
GOOD = HEADER + "@data\n1.5,-2,3e-1:4,.5,+6.:a\n7,8:9,10:b\n"


def parse(text, **changed):
    content = text if isinstance(text, bytes) else text.encode()
    known = {"source": "good.ts", "dimensions": 2, "labels": ("a", "b"), "count": 2}
    return parse_ts(content, **(known | changed))


def test_values_labels_and_layout():
    first, second = parse(GOOD)
    np.testing.assert_array_equal(
        first.values, np.array([[1.5, 4.0], [-2.0, 0.5], [0.3, 6.0]], "float32")
    )
    np.testing.assert_array_equal(second.values, [[7.0, 9.0], [8.0, 10.0]])
    assert first.values.dtype == second.values.dtype == np.float32
    assert (first.label, second.label) == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("+6.", "nan", "line 8: expected a finite number.*; found 'nan'", id="nan"),
        pytest.param("+6.", "-inf", "line 8: .* dimension 2; found '-inf'", id="infinite"),
        pytest.param("+6.", "?", "line 8: .* dimension 2; found '[?]'", id="missing"),
        pytest.param("+6.", "1_0", "line 8: .* dimension 2; found '1_0'", id="underscore"),
        pytest.param("+6.", "٣", "line 8: .* dimension 2; found", id="other digits"),
        pytest.param("+6.", "", "line 8: .* dimension 2; found ''", id="no value"),
        pytest.param("+6.", "x" * 99, "found 'x{37}[.]{3}'$", id="long"),
        pytest.param(
            "+6.", "-1e39", "line 8: expected a finite float32 in dimension 2; found '-1e39'",
            id="beyond float32",
        ),
        pytest.param("+6.", "1e999", "line 8: expected a finite float32", id="beyond float64"),
        pytest.param(
            "7,8:9,10", "7,8:9", "line 9: expected 2 values in dimension 2.*; found 1", id="short"
        ),
        pytest.param(
            "7,8:9,10", "7,8:9,10,11", "line 9: expected 2 values in dimension 2.*; found 3",
            id="long dimension",
        ),
        pytest.param(
            "7,8:9,10", ":", "line 9: expected at least one value in dimension 1", id="no frames"
        ),
        pytest.param(
            "7,8:9,10", "7,8:", "line 9: expected at least one value in dimension 2", id="empty one"
        ),
        pytest.param(
            "7,8:9,10", "7,8", "line 9: expected 2 dimensions and a label.*; found 2 fields",
            id="a dimension less",
        ),
        pytest.param(
            "7,8:9,10", "7,8:9,10:11,12", "line 9: expected 2 dimensions.*; found 4 fields",
            id="a dimension more",
        ),
        pytest.param("7,8:9,10:b", "", "line 9: expected 2 dim.*; found 1 field: ''", id="blank"),
        pytest.param(":b", ":c", "line 9: expected one of the labels a, b; found 'c'", id="label"),
        pytest.param(":b", ":", "line 9: expected one of the labels a, b; found ''", id="no label"),
        pytest.param(":b\n", ":b\r\n", r"line 9: expected one of the l.*; found 'b\\r'", id="CRLF"),
        pytest.param("7,8:9,10:b\n", "", "line 8: expected 2 series; found 1$", id="one less"),
        pytest.param("7,8:9,10:b\n", "7:9:b\n" * 2, "expected 2 series; found 3", id="one more"),
        pytest.param(":b\n", ":b", "line 9: expected a line end; found the end", id="cut"),
        pytest.param("@data\n", "", "line 7: expected a header line.*; found '1.5", id="no @data"),
        pytest.param(
            GOOD[len(HEADER) :], "", "line 6: expected @data; found the end", id="header only"
        ),
        pytest.param(GOOD, "", "line 0: expected @data; found the end", id="empty file"),
        pytest.param(
            "@dimensions 2\n", "", "line 6: expected @dimensions before @data; found none",
            id="absent key",
        ),
        pytest.param(
            "@dimensions 2", "@dimensions 3",
            "line 5: expected @dimensions 2; found @dimensions 3", id="other dimensions",
        ),
        pytest.param(
            "true a b", "true b a", "line 6: expected @classlabel true a b; found .* true b a",
            id="other labels",
        ),
        pytest.param("@missing false", "@missing true", "line 4: .*@missing false", id="gaps"),
        pytest.param("@timeStamps false", "@timeStamps true", "line 3: .*false", id="stamped"),
    ],
)  # fmt: skip
def test_malformed_input_is_an_error(old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(DatasetError, match=f"^good.ts, .*{message}"):
        parse(GOOD.replace(old, new))


def test_bytes_that_are_not_text_are_an_error():
    with pytest.raises(DatasetError, match="line 8: expected UTF-8 text; found byte 0xff"):
        parse(GOOD.encode().replace(b"+6.", b"\xff"))


def test_a_truncated_file_is_an_error():
    for length in range(len(GOOD)):
        with pytest.raises(DatasetError):
            parse(GOOD[:length])


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
label = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)


@st.composite
def written(draw):
    """Some series, and the file that holds them."""
    dimensions = draw(st.integers(1, 4))
    labels = draw(st.lists(label, min_size=1, max_size=4, unique=True))
    number = draw(st.sampled_from([repr, "{:.9g}".format, "{:.9e}".format]))
    row = st.lists(finite, min_size=dimensions, max_size=dimensions)
    series = draw(
        st.lists(st.tuples(st.lists(row, min_size=1, max_size=6), st.sampled_from(labels)))
    )
    text = f"@timeStamps false\n@missing false\n@dimensions {dimensions}\n"
    text += f"@classLabel true {' '.join(labels)}\n@data\n"
    for rows, its_label in series:
        columns = [",".join(map(number, column)) for column in zip(*rows, strict=True)]
        text += ":".join([*columns, its_label]) + "\n"
    return text, dimensions, labels, series


@given(written())
@settings(deadline=None)
def test_round_trip(case):
    text, dimensions, labels, series = case
    parsed = parse(text, dimensions=dimensions, labels=labels, count=len(series))
    assert [found.label for found in parsed] == [its_label for _, its_label in series]
    for found, (rows, _) in zip(parsed, series, strict=True):
        # The bytes, so that -0.0 counts too.
        assert found.values.shape == (len(rows), dimensions)
        assert found.values.tobytes() == np.array(rows, "float32").tobytes()


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@settings(deadline=None)
def test_a_changed_byte_is_an_error_or_other_values(position, byte):
    content = bytearray(GOOD.encode())
    content[position] = byte
    try:
        parsed = parse(bytes(content))
    except DatasetError:
        pass
    else:
        assert all(np.isfinite(found.values).all() for found in parsed)
