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


def prefix_search(p, width, score=None, bonus=0.0, blank=0):
    """The best prefixes and their scores, by a search frame by frame with dictionaries.

    Args:
        p: `(time, classes)`.
        width: number of prefixes kept after each frame.
        score: `score(prefix, label)` is added for each label, and with None for the end.
        bonus: is added for each label.
        blank: the class of the blank.
    """
    score = score or (lambda prefix, label: 0.0)

    def total(item):
        labels, (with_blank, with_label) = item
        added = sum(score(labels[:n], k) + bonus for n, k in enumerate(labels))
        with np.errstate(divide="ignore"):
            return np.log(with_blank + with_label) + added

    beam = {(): (1.0, 0.0)}
    for frame in p:
        new = {}

        def add(labels, with_blank, with_label, new=new):
            before = new.get(labels, (0.0, 0.0))
            new[labels] = (before[0] + with_blank, before[1] + with_label)

        for labels, (with_blank, with_label) in beam.items():
            either = with_blank + with_label
            add(labels, either * frame[blank], 0.0)
            for k in range(len(frame)):
                if k == blank:
                    continue
                if labels and k == labels[-1]:
                    add(labels, 0.0, with_label * frame[k])
                    add((*labels, k), 0.0, with_blank * frame[k])
                else:
                    add((*labels, k), 0.0, either * frame[k])
        beam = dict(sorted(new.items(), key=total, reverse=True)[:width])
    found = [(labels, total((labels, beam[labels])) + score(labels, None)) for labels in beam]
    return sorted(found, key=lambda x: x[1], reverse=True)
