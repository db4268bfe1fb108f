"""The benchmark of large vocabularies: its text and its report. No time is asserted."""

import numpy as np

from benchmarks.vocabulary import __main__ as vocabulary
from tests.benchmarks.export.test_export import MADE_UP as OF_EXPORTS


def test_text():
    """Four fifths of the words are one of four that follow the word before; rank 1 is frequent."""
    ids = vocabulary.text(50, 20_000)
    assert 0 <= ids.min() <= ids.max() < 50
    after = ids[1:][ids[:-1] == 3]
    four = np.sort(np.bincount(after, minlength=50))[::-1][:4].sum() / len(after)
    assert four > 0.75
    assert np.mean(ids == 0) > np.mean(ids == 30)


def test_the_report():
    def of(name, seconds, losses):
        return {"contender": name, "seconds": seconds, "losses": losses, "parameters": 1234}

    raw = {
        "machine": OF_EXPORTS["machine"],
        "options": {"classes": 50},
        "complete": True,
        "points": [of("full", [0.5, 0.4], [3.0, 2.5]), of("adaptive", [0.2, 0.3], [2.8, 2.0])],
    }
    lines = vocabulary.report(raw, "a command").splitlines()
    assert "| full | 1,234 | 400 | 1.00 | 3.00, 2.50 |" in lines
    assert "| adaptive | 1,234 | 200 | 0.50 | 2.80, 2.00 |" in lines
