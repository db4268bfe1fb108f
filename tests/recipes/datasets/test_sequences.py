"""Description sequences: the grammar, the file's format, and the recursion, by other means too."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.ideographs.sequences import (
    ARITY,
    decompose,
    parse_ids,
    well_formed,
)

OPERATORS = "⿰⿱⿲⿳⿴⿵⿶⿷⿸⿹⿺⿻"
COMPONENTS = "一丨口木日月③"


def test_arity_is_that_of_unicode():
    """Unicode 15, section 18.2: twelve operators, of which U+2FF2 and U+2FF3 take three parts."""
    assert "".join(ARITY) == OPERATORS
    assert {symbol for symbol, arity in ARITY.items() if arity == 3} == set("⿲⿳")
    assert set(ARITY.values()) == {2, 3}


@pytest.mark.parametrize(
    "symbols",
    ["木", "⿰木目", "⿱⿰木目心", "⿲木口日", "⿳一⿰木目⿻口丨", ["⿰", "⿱", "口", "口", "木"]],
)
def test_well_formed(symbols):
    assert well_formed(symbols)
    assert well_formed(iter(symbols))


@pytest.mark.parametrize(
    "symbols", ["", [], "⿰", "⿰木", "木目", "⿰木目心", "⿲木口", "木⿰口口", "⿰⿰木目", "口⿰"]
)
def test_ill_formed(symbols):
    assert not well_formed(symbols)


def parses(symbols):
    """A recursive descent through the grammar; the oracle of `well_formed`."""

    def one(at):
        if at == len(symbols):
            raise IndexError
        parts = {"⿲": 3, "⿳": 3}.get(symbols[at], 2) if symbols[at] in OPERATORS else 0
        at += 1
        for _ in range(parts):
            at = one(at)
        return at

    try:
        return one(0) == len(symbols)
    except IndexError:
        return False


@given(st.text(OPERATORS[:4] + COMPONENTS[:2], max_size=9))
def test_well_formed_sequences_are_those_of_the_grammar(symbols):
    assert well_formed(symbols) == parses(symbols)


def trees(components):
    """Well-formed sequences, from the grammar."""

    def grow(parts):
        two = st.tuples(st.sampled_from(OPERATORS[:2] + OPERATORS[4:]), parts, parts)
        three = st.tuples(st.sampled_from("⿲⿳"), parts, parts, parts)
        return st.one_of(two, three).map("".join)

    return st.recursive(st.sampled_from(components), grow, max_leaves=6)


@given(trees(COMPONENTS), trees(COMPONENTS))
def test_sequences_are_neither_split_nor_joined(first, second):
    assert well_formed(first)
    assert not any(well_formed(first[:length]) for length in range(len(first)))
    assert not well_formed(first + second)
    assert well_formed("⿰" + first + second)


GOOD = (
    "# a comment\n"
    "U+6728\t木\t木\n"
    "U+76F8\t相\t⿰木目[GJ]\t⿰目木[K]\n"
    "U+20000\t𠀀\t⿱一木\t⿱木一[G]\n"
)


def parse(text, region="G"):
    content = text if isinstance(text, bytes) else text.encode()
    return parse_ids(content, source="ids.txt", region=region)


def test_parsed():
    assert parse(GOOD) == {"木": "木", "相": "⿰木目", "𠀀": "⿱木一"}
    assert parse(GOOD, region="K") == {"木": "木", "相": "⿰目木", "𠀀": "⿱一木"}
    # Of Taiwan nothing is said: without letters goes before the others' letters.
    assert parse(GOOD, region="T") == {"木": "木", "相": "⿰木目", "𠀀": "⿱一木"}
    assert parse("# nothing\n") == parse("") == {}


def test_the_first_of_equal_sources_is_chosen():
    assert parse("U+5317\t北\t⿰丨匕\t⿰③匕\n")["北"] == "⿰丨匕"
    assert parse("U+5317\t北\t⿰丨匕[TG]\t⿰③匕[GJ]\n")["北"] == "⿰丨匕"
    assert parse("U+5317\t北\t⿰丨匕[T]\t⿰③匕[J]\n")["北"] == "⿰丨匕"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("⿰木目[GJ]", "⿰木[GJ]", r"line 3: .*found '⿰木\[GJ\]'", id="cut"),
        pytest.param("⿰木目[GJ]", "木目[GJ]", "line 3: .*well-formed", id="two"),
        pytest.param("[GJ]", "[GJ", "line 3: .*letters in brackets", id="open bracket"),
        pytest.param("[GJ]", "[]", "line 3: .*letters in brackets", id="no letters"),
        pytest.param("[GJ]", "[gj]", "line 3: .*letters in brackets", id="lower case"),
        pytest.param("⿰木目", "⿰木&CDP-8B7C;", "line 3: .*well-formed", id="entity"),
        pytest.param("⿰木目", "", "line 3: .*well-formed", id="letters alone"),
        pytest.param("\t⿰目木[K]", "\t", "line 3: .*; found ''$", id="empty field"),
        pytest.param("木\t木", "木", "line 2: expected a description of 木", id="short"),
        pytest.param("6728", "6729", "line 2: expected a code point.*; found 'U.6729'", id="other"),
        pytest.param("76F8", "76f8", "line 3: expected a code point", id="lower-case code"),
        pytest.param("U+76F8\t相", "U+6728\t木", "line 3: expected one line", id="twice"),
        pytest.param("# a comment", "", "line 1: expected a code point.*; found ''", id="blank"),
        pytest.param("[G]\n", "[G]", "line 4: expected a line end; found the end", id="no end"),
        pytest.param("[G]\n", "[G]\r\n", "line 4: .*letters in brackets", id="CRLF"),
    ],
)  # fmt: skip
def test_malformed_input_is_an_error(old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(DatasetError, match=f"^ids.txt, {message}"):
        parse(GOOD.replace(old, new))


def test_bytes_that_are_not_text_are_an_error():
    with pytest.raises(DatasetError, match="line 3: expected UTF-8 text; found byte 0xff"):
        parse(GOOD.encode().replace("目".encode(), b"\xff", 1))


def test_decomposed_by_hand():
    table = {"相": "⿰木目", "想": "⿱相心", "厢": "⿸厂相", "木": "木", "霜": "⿱雨相", "雨": "雨"}
    assert decompose("想", table) == list("⿱⿰木目心")
    assert decompose("霜", table) == list("⿱雨⿰木目")
    assert decompose("木", table) == ["木"]
    assert decompose("目", table) == ["目"]  # not in the table
    assert decompose("厢", table) == ["⿸", "厂", "⿰", "木", "目"]


def test_a_symbol_that_contains_itself_is_an_error():
    with pytest.raises(DatasetError, match=r"^国 is a part of itself: 国 > 玉 > 国$"):
        decompose("国", {"国": "⿴囗玉", "玉": "⿻王国"})
    with pytest.raises(DatasetError, match=r"^木 is a part of itself: 林 > 木 > 木$"):
        decompose("林", {"林": "⿰木木", "木": "⿻一木"})


NAMES = "甲乙丙丁戊己"


@given(st.data())
@settings(deadline=None)
def test_decomposition_is_recursive(data):
    """Each name is described by components and the names before it."""
    table = {name: name for name in COMPONENTS[::2]}
    for number, name in enumerate(NAMES):
        table[name] = data.draw(trees(COMPONENTS + NAMES[:number]))
    text = NAMES[-1]
    for name in reversed(NAMES):
        text = text.replace(name, table[name])
    assert "".join(decompose(NAMES[-1], table)) == text
    assert well_formed(text)
