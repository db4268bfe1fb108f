"""All sequences of tags of a row, one by one, with their scores: Sutton & McCallum (2012)."""

import itertools

import numpy as np

# One row for each kind: every step, padding after and before, gaps, one step, none.
MASK = np.array(
    [
        [1, 1, 1, 1],
        [1, 1, 0, 0],
        [0, 1, 1, 1],
        [1, 0, 1, 1],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
    ],
    bool,
)
ROWS, STEPS = MASK.shape


def paths(x, start, transitions, end, valid, is_allowed=lambda y: True):
    """`{tags of the valid steps: score}`, of all sequences that are allowed.

    x: `(time, tags)`; valid: booleans `(time,)`.
    """
    x = x[valid]
    found = {}
    for y in itertools.product(range(x.shape[1]), repeat=len(x)):
        if y and is_allowed(y):
            score = start[y[0]] + sum(x[t, k] for t, k in enumerate(y)) + end[y[-1]]
            score += sum(transitions[pair] for pair in itertools.pairwise(y))
            found[y] = score
    return found or {(): 0.0}


def log_partition(found):
    return np.log(np.sum(np.exp(list(found.values()))))


def marginals(found, valid, count):
    """`(time, tags)`, 0 where steps are not valid."""
    p = np.zeros((len(valid), count))
    z = sum(np.exp(score) for score in found.values())
    for y, score in found.items():
        p[np.flatnonzero(valid), list(y)] += np.exp(score) / z
    return p


def best(found, valid, n):
    """The n best: `(n, time)`, 0 where steps are not valid, and their scores; -inf where there are
    fewer."""
    tags, scores = np.zeros((n, len(valid)), int), np.full(n, -np.inf)
    for rank, y in enumerate(sorted(found, key=found.get, reverse=True)[:n]):
        tags[rank, valid], scores[rank] = y, found[y]
    return tags, scores
