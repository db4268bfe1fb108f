"""Error rates, compared with jiwer's on texts, and with texts on ids and outputs."""

import jiwer
import keras
import numpy as np
import pytest

from kerasrnn.metrics import CharacterErrorRate, WordErrorRate
from tests.catalogue import variant_id
from tests.losses import ctc_oracle
from tests.losses.test_crossentropy import masked

# White space at the edges and repeated, an empty hypothesis, words of other languages.
REFERENCES = ["hello world", "  a  long day ", "i like monthy python", "你好 世界", "one"]
HYPOTHESES = ["hello duck", "a long  day", "i love the monthy", "你好", ""]


def test_texts_against_jiwer():
    for metric, of_jiwer in ((WordErrorRate(), jiwer.wer), (CharacterErrorRate(), jiwer.cer)):
        for part in (slice(0, 2), slice(2, 5)):
            metric.update_state(REFERENCES[part], HYPOTHESES[part])
        expected = of_jiwer(REFERENCES, HYPOTHESES)
        assert 0.2 < expected < 0.6
        np.testing.assert_allclose(metric.result(), expected, rtol=1e-6)
        metric.reset_state()
        metric.update_state("hello world", "hello duck")
        expected = of_jiwer("hello world", "hello duck")
        np.testing.assert_allclose(metric.result(), expected, rtol=1e-6)
        # A weight is a number of equal rows.
        metric.reset_state()
        metric.update_state(np.array(REFERENCES), np.array(HYPOTHESES, object), [2, 0, 1, 3, 0])
        again = [[side[0]] * 2 + [side[2]] + [side[3]] * 3 for side in (REFERENCES, HYPOTHESES)]
        np.testing.assert_allclose(metric.result(), of_jiwer(*again), rtol=1e-6)


SEPARATOR = 1


def as_ids(texts, width=9):
    """0 and -1 are padding, 1 the separator, which may be repeated."""
    rows = [[" abc".index(character) + 1 for character in text] for text in texts]
    return np.array([row + [-1] + [0] * (width - len(row)) for row in rows])


def test_ids_equal_their_texts():
    """Characters are not stripped: what is in the ids counts."""
    random = np.random.default_rng(2)
    references, hypotheses = (
        ["".join(random.choice(list("abc "), random.integers(0, 8))) for _ in range(40)]
        for _ in range(2)
    )
    ids = [as_ids(references), as_ids(hypotheses)]
    words, of_texts = WordErrorRate(SEPARATOR), WordErrorRate()
    words.update_state(*ids)
    of_texts.update_state(references, hypotheses)
    assert float(words.result()) == float(of_texts.result())
    characters, of_texts = CharacterErrorRate(), CharacterErrorRate()
    characters.update_state(*ids)
    of_texts.update_state(
        [text.replace(" ", "_") for text in references],
        [text.replace(" ", "_") for text in hypotheses],
    )
    assert float(characters.result()) == float(of_texts.result())


def test_without_a_separator_each_id_is_a_word():
    one, other = WordErrorRate(), CharacterErrorRate()
    for metric in (one, other):
        metric.update_state(np.array([[3, 4, 0, 5]]), np.array([[3, 5]]))
    assert float(one.result()) == float(other.result()) == pytest.approx(1 / 3)


def test_outputs_are_read_along_the_best_path():
    """Repeats and blanks are dropped, and masked frames; class 2 is the blank."""
    random = np.random.default_rng(0)
    p = random.random((3, 8, 4)).astype("float32")
    mask = random.random((3, 8)) < 0.7
    y = np.array([[0, 1, 3, 2], [3, 2, 0, -1], [1, 1, 2, 2]])
    metric = CharacterErrorRate(blank=2)
    metric.update_state(y, masked(p, mask))
    read = [ctc_oracle.read(p[b, mask[b]].argmax(-1), blank=2) for b in range(3)]
    letters = "abcd"
    references = ["".join(letters[k] for k in row if k not in (2, -1)) for row in y]
    hypotheses = ["".join(letters[k] for k in row) for row in read]
    np.testing.assert_allclose(metric.result(), jiwer.cer(references, hypotheses), rtol=1e-6)
    # Logits, of which all may be negative, have the same path as their probabilities.
    of_logits = CharacterErrorRate(blank=2)
    of_logits.update_state(y, masked(np.log(p) - 20, mask))
    np.testing.assert_allclose(of_logits.result(), metric.result(), rtol=1e-6)
    # Masked ids are excluded.
    metric.reset_state()
    metric.update_state(y, masked(y, np.array([[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]], bool)))
    np.testing.assert_allclose(metric.result(), 1 / 7)


def test_in_compiled_code():
    """The metrics of a batch of outputs, as a training step computes them."""
    if keras.config.backend() == "torch":
        pytest.skip("Nothing is compiled there.")
    random = np.random.default_rng(1)
    p, y = random.random((4, 9, 5)).astype("float32"), random.integers(0, 5, (4, 3))
    metrics = [CharacterErrorRate(), WordErrorRate(separator=3)]
    for metric in metrics:
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            tf.function(metric.update_state, autograph=False, jit_compile=True)(y, p)
            compiled = float(metric.result())
        else:
            import jax

            variables = [v.value for v in metric.variables]
            compiled = jax.jit(metric.stateless_update_state)(variables, y, p)
            compiled = float(metric.stateless_result(compiled))
        metric.reset_state()
        metric.update_state(y, p)
        assert float(metric.result()) == pytest.approx(compiled, rel=1e-6)
        assert compiled > 0


def test_their_configurations():
    for metric in (CharacterErrorRate(3, "a"), WordErrorRate(4, 2, "b")):
        again = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert type(again) is type(metric)
        assert again.get_config() == metric.get_config()


IDS = np.ones((2, 3), "int32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WordErrorRate(separator=0), "separator=0: expected another id than the blank"),
        (lambda: WordErrorRate(separator=-1), "separator=-1: expected an integer of at least 0"),
        (lambda: CharacterErrorRate(blank=-1), "blank=-1: expected an integer of at least 0"),
        (
            lambda: WordErrorRate()(["a"], IDS),
            "y_true is a list and y_pred a ndarray: expected",
        ),
        (lambda: WordErrorRate()(["a"], ["a", "b"]), "y_pred has 2 texts: expected as many as y_t"),
        (lambda: WordErrorRate()(["a", 1], ["a", "b"]), r"y_true\[1\]=1: expected a text"),
        (lambda: WordErrorRate()(IDS[0], IDS), r"y_true of the shape \(3,\): expected ids \(batch"),
        (
            lambda: WordErrorRate()(IDS, IDS[0]),
            r"y_pred of the shape \(3,\): expected ids .* or",
        ),
        (lambda: WordErrorRate()(IDS, IDS[:1]), "y_pred has 1 rows: expected as many as y_true, 2"),
        (
            lambda: CharacterErrorRate(blank=3)(IDS, np.ones((2, 4, 3), "float32")),
            "blank=3: expected a class of y_pred, 0 to 2",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
