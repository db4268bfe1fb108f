"""Pieces of words: SentencePiece's ids, in datasets and in models."""

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

import kerasrnn

pytestmark = pytest.mark.tensorflow
TEXTS = ["the cat sat on the mat", "the hat of the cat", "a mat and a hat"] * 10


@pytest.fixture(scope="module")
def layer():
    return kerasrnn.SentencePieceVectorization.train(TEXTS, size=20)


def test_ids_are_those_of_sentencepiece(layer):
    import base64

    own = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(layer.model))
    ids = layer(["the mat", "a catalogue of hats"]).numpy()
    assert ids.dtype == np.int32
    for row, text in zip(ids, ["the mat", "a catalogue of hats"], strict=True):
        expected = own.encode(text)
        assert row[: len(expected)].tolist() == expected
        assert not row[len(expected) :].any()
    assert layer("the mat").numpy().tolist() == own.encode("the mat")
    assert layer.decode(ids[0]) == "the mat"
    assert layer.get_vocabulary()[:2] == ["<pad>", "<unk>"]
    assert 1 in layer("ñ").numpy()


def test_training_again_gives_the_same_pieces(layer):
    again = kerasrnn.SentencePieceVectorization.train(TEXTS, size=20)
    assert again.get_vocabulary() == layer.get_vocabulary()


def test_datasets_and_saved_models(layer, tmp_path):
    dataset = tf.data.Dataset.from_tensor_slices(["the cat", "a mat"]).map(layer)
    for row, text in zip(dataset.as_numpy_iterator(), ["the cat", "a mat"], strict=True):
        np.testing.assert_array_equal(row, layer(text))
    text = keras.Input((), dtype="string")
    model = keras.Model(text, keras.layers.Embedding(20, 3)(layer(text)))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    texts = tf.constant(["the cat sat", "hat"])
    np.testing.assert_array_equal(loaded(texts), model(texts))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"size=1000: .*too high"):
        kerasrnn.SentencePieceVectorization.train(["a b"], size=1000)
    with pytest.raises(ValueError, match="model: expected a SentencePiece model"):
        kerasrnn.SentencePieceVectorization(b"junk")
    import io

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=written, vocab_size=20, minloglevel=2
    )
    with pytest.raises(ValueError, match="expected padding to have the id 0 and unknown the id 1"):
        kerasrnn.SentencePieceVectorization(written.getvalue())
