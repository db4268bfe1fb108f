"""Connectionist temporal classification by its definition: all paths, one by one."""

import itertools

import numpy as np


def read(path, blank=0):
    """What a path writes: without repeated labels, then without blanks."""
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def enumerate_labels(p, blank=0):
    """The probability of every label sequence that `(time, classes)` can write."""
    found = {}
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        labels = read(path, blank)
        found[labels] = found.get(labels, 0.0) + float(np.prod(p[range(len(p)), list(path)]))
    return found


def best_path(p, labels, blank=0):
    """The most probable path that writes the labels, and its probability."""
    paths = (x for x in itertools.product(range(p.shape[1]), repeat=len(p)))
    of_labels = [x for x in paths if read(x, blank) == tuple(labels)]
    return max(
        ((x, float(np.prod(p[range(len(p)), list(x)]))) for x in of_labels), key=lambda x: x[1]
    )


def times(path, blank=0):
    """The step at which each label of a path begins."""
    return [t for t, k in enumerate(path) if k != blank and (t == 0 or path[t - 1] != k)]
