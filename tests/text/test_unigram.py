"""SentencePiece's unigram model as TensorFlow's operations, against SentencePiece itself."""

import base64

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kerasrnn
from kerasrnn.export import to_saved_model
from kerasrnn.text.pieces import without_python
from kerasrnn.text.unigram import Unigram
from tests.text.test_pieces import TEXTS

pytestmark = pytest.mark.tensorflow
MORE = [*TEXTS, "ein Hütchen für die Katze", "où est le chapeau ?", "猫の帽子はどこですか"] * 5


@pytest.fixture(scope="module")
def layer():
    return kerasrnn.SentencePieceVectorization.train(MORE, size=45)


@pytest.fixture(scope="module")
def cut(layer):
    unigram = Unigram(base64.b64decode(layer.model))
    return tf.function(unigram, input_signature=[tf.TensorSpec((None,), "string")])


def assert_same(cut, layer, texts):
    ids = cut(tf.constant(texts)).numpy()
    assert ids.dtype == np.int32
    for text, row in zip(texts, ids, strict=True):
        expected = layer.processor.encode(text)
        assert row[: len(expected)].tolist() == expected, text
        assert not row[len(expected) :].any()


def test_texts(cut, layer):
    """Of the training texts, new ones, blanks, none, unknown signs in a row and apart."""
    assert_same(cut, layer, MORE[:33])
    assert_same(
        cut,
        layer,
        ["the  hat ", "", " ", "catalogue", "ñññ", "añbñ", "\tthe\u00a0mat\n", "帽子の猫", "Ω"],
    )


# Signs that rules replace: composed and decomposed, of other widths, ligatures, Hangul's letters.
ALPHABET = "abthe  ñ\u0301\u0308eouäﬁ½Ⅷｆ\u1100\u1161\u11a8각\u3099か\u200d\u00ad…Ⓐ猫𝔘😀"


@given(st.lists(st.text(ALPHABET, max_size=12), min_size=1, max_size=5))
@example(["e\u0301e\u0301", "\u1100\u1161\u11a8\u1161", "か\u3099"])
@settings(max_examples=40)
def test_any_text(cut, layer, texts):
    assert_same(cut, layer, texts)


def test_normalization(cut, layer):
    """As SentencePiece normalizes, which does not show its blanks' replacement."""
    unigram = Unigram(base64.b64decode(layer.model))
    texts = ["ﬁne ½ Ⅷ", " e\u0301t  é", "ｆｕｌｌ\u3000width"]
    for text, found in zip(texts, unigram.normalized(tf.constant(texts)).numpy(), strict=True):
        assert found.decode() == layer.processor.normalize(text)


def test_a_saved_model_holds_it(layer, tmp_path):
    """It needs no sentencepiece: the other process has no kerasrnn to call it."""
    text = keras.Input((), dtype="string")
    x = keras.layers.Embedding(45, 3, mask_zero=True)(layer(text))
    model = keras.Model(text, kerasrnn.GRU(2)(x))
    given = np.array(["the cat sat", "où est le mat ?", ""], dtype=object)
    report = to_saved_model(model, tmp_path / "m", check=[given, given[:1]])
    assert report.difference < 1e-6
    np.testing.assert_array_equal(layer("the cat"), layer.processor.encode("the cat"))
    with without_python():
        np.testing.assert_array_equal(layer("the cat"), layer.processor.encode("the cat"))


def test_other_kinds_are_refused(tmp_path):
    import io

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        vocab_size=25,
        model_type="bpe",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    with pytest.raises(ValueError, match="cannot be exported; expected kind='unigram'"):
        Unigram(written.getvalue())
