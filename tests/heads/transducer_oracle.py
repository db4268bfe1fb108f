"""A transducer with a simple recurrent prediction network, in NumPy, and searches in it.

h_u = tanh(e_u W + h_{u-1} U + b),    a_tu = tanh(f_t F + c + h_u G) V + d
"""

import itertools
from typing import NamedTuple

import numpy as np

from tests import numpy_models


class Weights(NamedTuple):
    embedding: np.ndarray
    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    of_frames: np.ndarray
    frames_bias: np.ndarray
    of_labels: np.ndarray
    readout: np.ndarray
    readout_bias: np.ndarray

    @classmethod
    def of(cls, head):
        """The weights of a built layer with one `SimpleRNN`."""
        (layer,) = head.stack.layers
        variables = [
            head.embedding.embeddings,
            *layer.weights,
            *head.of_frames.weights,
            *head.of_labels.weights,
            *head.readout.weights,
        ]
        return cls(*(np.asarray(w.numpy(), "float64") for w in variables))


def outputs(w, labels):
    """The outputs of the prediction network after 0, 1, ... labels."""
    h, found = np.zeros(w.recurrent.shape[0]), []
    for k in (0, *labels):
        h = np.tanh(w.embedding[k] @ w.kernel + h @ w.recurrent + w.bias)
        found.append(h)
    return np.array(found)


def log_p(w, frame, h):
    """The log-probabilities of the classes."""
    z = np.tanh(frame @ w.of_frames + w.frames_bias + h @ w.of_labels)
    return np.log(numpy_models.softmax(z @ w.readout + w.readout_bias))


def lattice(w, frames, labels):
    """The log-probabilities of the classes at all nodes, `(time, labels + 1, classes)`."""
    h = outputs(w, labels)
    found = np.array([[log_p(w, frame, g) for g in h] for frame in frames])
    return found.reshape(len(frames), len(h), w.readout.shape[1])


def moves(w, frames, labels):
    """Those of the blank, and of the next label, both `(time, labels + 1)`; 0 after the last."""
    found = lattice(w, frames, labels)
    following = [found[:, u, k] for u, k in enumerate(labels)]
    return found[..., 0], np.stack([*following, np.zeros(len(frames))], axis=1)


def greedy(w, frames, per_frame):
    """The labels of the best path, their frames, and its log-probability."""
    labels, times, score = [], [], 0.0
    for t, frame in enumerate(frames):
        for n in range(per_frame + 1):
            scores = log_p(w, frame, outputs(w, labels)[-1])
            best = int(scores.argmax())
            if n == per_frame:
                best = 0
            score += scores[best]
            if best == 0:
                break
            labels.append(best)
            times.append(t)
    return labels, times, score


def enumerate_labels(w, frames, per_frame):
    """The log-probability of every label sequence with at most so many labels at a frame, and the
    frames of its most probable path."""
    classes, found = w.readout.shape[1], {}
    for counts in itertools.product(range(per_frame + 1), repeat=len(frames)):
        times = np.repeat(np.arange(len(frames)), counts)
        for labels in itertools.product(range(1, classes), repeat=sum(counts)):
            blank, label = moves(w, frames, labels)
            done = np.cumsum(counts)
            score = sum(blank[t, done[t]] for t in range(len(frames)))
            score += sum(label[t, u] for u, t in enumerate(times))
            found.setdefault(labels, []).append((score, times.tolist()))
    return {
        k: (np.logaddexp.reduce([score for score, _ in paths]), max(paths)[1])
        for k, paths in found.items()
    }


def beam_search(w, frames, width, per_frame, added=lambda labels, k: 0.0):
    """The best label sequences and their scores, by a search with dictionaries.

    `added` is what a language model adds for a label after others, and for the end, None.
    """
    beam = {(): 0.0}
    for frame in frames:
        current, ended = beam, {}
        for n in range(per_frame + 1):
            extended = {}
            for labels, score in current.items():
                scores = score + log_p(w, frame, outputs(w, labels)[-1])
                ended[labels] = np.logaddexp(ended.get(labels, -np.inf), scores[0])
                if n < per_frame:
                    extended |= {
                        (*labels, k): scores[k] + added(labels, k) for k in range(1, len(scores))
                    }
            current = _best(extended, width)
        beam = _best(ended, width)
    beam = {labels: score + added(labels, None) for labels, score in beam.items()}
    return sorted(beam.items(), key=lambda item: item[1], reverse=True)


def _best(scored, width):
    return dict(sorted(scored.items(), key=lambda item: item[1], reverse=True)[:width])
