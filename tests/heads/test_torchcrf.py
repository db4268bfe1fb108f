"""`kerasrnn.CRF` compared with torchcrf, a linear-chain CRF for PyTorch."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.measure import op_by_op

pytestmark = pytest.mark.torch


def test_likelihood_gradients_and_decoding_equal_those_of_torchcrf():
    import torch
    from torchcrf import CRF

    random = np.random.default_rng(0)
    x = random.normal(size=(5, 9, 4)).astype("float32")
    y = random.integers(0, 4, (5, 9))
    mask = np.arange(9) < np.array([[9], [5], [1], [8], [3]])
    peer = CRF(4, batch_first=True)
    layer = kerasrnn.CRF(4)
    layer.build(x.shape)
    of_peer = (peer.start_transitions, peer.transitions, peer.end_transitions)
    weights = [random.normal(size=tuple(w.shape)).astype("float32") for w in of_peer]
    layer.set_weights(weights)
    for parameter, weight in zip(of_peer, weights, strict=True):
        parameter.data = torch.tensor(weight)
    scores = torch.tensor(x, requires_grad=True)
    likelihoods = peer(scores, torch.tensor(y), torch.tensor(mask), reduction="none")
    likelihoods.sum().backward()
    paths = peer.decode(scores, torch.tensor(mask))
    with op_by_op():
        found = layer.log_likelihood(x, y, mask)
        tags = ops.convert_to_numpy(layer.decode(x, mask)[0])
    np.testing.assert_allclose(found, likelihoods.detach(), rtol=1e-5)
    assert [row[valid].tolist() for row, valid in zip(tags, mask, strict=True)] == paths
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    with op_by_op(), tf.GradientTape() as tape:
        given = tf.Variable(x)
        total = tf.reduce_sum(layer.log_likelihood(given, y, mask))
    gradients = tape.gradient(total, [given, *(w.value for w in layer.trainable_variables)])
    for d, expected in zip(gradients, [scores, *of_peer], strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(d), expected.grad, atol=1e-5)
