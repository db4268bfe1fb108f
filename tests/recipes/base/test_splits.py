"""Hashes that hold out texts, against SHA-256 of the shell."""

import pytest

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.splits import check_parts, fingerprint, place

# printf %s amess | sha256sum
AMESS = "356612c2e402cffae0df37bcea70318aaa02ac6ba66c6a0b7cac1b2c5d2ce350"


@pytest.mark.parametrize("text", ["amess", "A mess.", "...a\tMESS!", " a m-e_s's "])
def test_letters_and_digits_count(text):
    assert fingerprint(text) == AMESS
    assert place(text) == pytest.approx(0x356612C2E402 / 0x1000000000000, rel=1e-12)


def test_texts_differ_by_letters_and_digits():
    texts = ["a mess", "a mess 2", "a mëss", "猫", "犬", ""]
    assert len({fingerprint(text) for text in texts}) == len(texts)


def test_places_are_even():
    places = sorted(place(f"text {n}") for n in range(2_000))
    assert places[0] >= 0
    assert places[-1] < 1
    # Kolmogorov and Smirnov: above 1.63 / sqrt(n) in one of a hundred sets.
    assert max(abs(p - n / 2_000) for n, p in enumerate(places)) < 1.63 / 2_000**0.5


def test_every_split_of_an_own_file_has_texts():
    check_parts("a.txt", {"training": ["x"], "testing": ["y"]}, 0.2, "text")
    message = r"^a\.txt: expected texts for testing; found none among its 2 texts\. 50 different"
    with pytest.raises(DatasetError, match=message):
        check_parts("a.txt", {"training": ["x", "y"], "testing": []}, 0.2, "text")
