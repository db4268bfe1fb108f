"""SentencePiece's unigram model in TensorFlow's operations, compared with SentencePiece."""

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
def exported(layer, tmp_path_factory):
    """The layer in a SavedModel, which TensorFlow runs in a process without kerasrnn."""
    text = keras.Input((), dtype="string")
    given = np.array(["the cat sat", "où est le mat ?", ""], dtype=object)
    folder = tmp_path_factory.mktemp("unigram") / "model"
    return to_saved_model(keras.Model(text, layer(text)), folder, check=[given, given[:1]])


@pytest.fixture(scope="module")
def cut(exported):
    return tf.saved_model.load(str(exported.path)).serve


def assert_same(cut, layer, texts):
    ids = cut(tf.constant(texts)).numpy()
    assert ids.dtype == np.int32
    for text, row in zip(texts, ids, strict=True):
        expected = layer.processor.encode(text)
        assert row[: len(expected)].tolist() == expected, text
        assert not row[len(expected) :].any()


def test_texts(cut, layer):
    """Training texts, new texts, blanks, empty texts, and unknown signs."""
    assert_same(cut, layer, MORE[:33])
    assert_same(
        cut,
        layer,
        ["the  hat ", "", " ", "catalogue", "ñññ", "añbñ", "\tthe\u00a0mat\n", "帽子の猫", "Ω"],
    )


# Signs that normalization replaces: composed and decomposed, wide, ligatures, Hangul's letters.
ALPHABET = "abthe  ñ\u0301\u0308eouäﬁ½Ⅷｆ\u1100\u1161\u11a8각\u3099か\u200d\u00ad…Ⓐ猫𝔘😀"


@given(st.lists(st.text(ALPHABET, max_size=12), min_size=1, max_size=5))
@example(["e\u0301e\u0301", "\u1100\u1161\u11a8\u1161", "か\u3099"])
@settings(max_examples=40)
def test_any_text(cut, layer, texts):
    assert_same(cut, layer, texts)


def test_normalization(cut, layer):
    """SentencePiece's own, which does not show the replacement of blanks."""
    unigram = Unigram(base64.b64decode(layer.model))
    texts = ["ﬁne ½ Ⅷ", " e\u0301t  é", "ｆｕｌｌ\u3000width"]
    for text, found in zip(texts, unigram.normalized(tf.constant(texts)).numpy(), strict=True):
        assert found.decode() == layer.processor.normalize(text)


def test_export(exported, layer):
    """The layer uses sentencepiece again after the export."""
    assert exported.difference == 0
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
