"""Layers for text: subword ids from strings, embeddings of adjacent ids; and n-gram models.

They are saved inside a model and travel with it: a model that starts with a
`SentencePieceVectorization` takes strings.

>>> import kerasrnn
>>> texts = ["the cat sat on the mat", "the hat of the cat"] * 20
>>> layer = kerasrnn.text.SentencePieceVectorization.train(texts, size=16)
>>> layer(["the mat", "a cat"]).shape[0]
2
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.text.bigrams import BigramEmbedding
from kerasrnn.text.ngrams import NGrams
from kerasrnn.text.pieces import SentencePieceVectorization

__all__ = ["BigramEmbedding", "NGrams", "SentencePieceVectorization"]
