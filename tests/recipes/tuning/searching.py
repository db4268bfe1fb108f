"""The search that the tests of this folder run, and its results."""

import json
from pathlib import Path
from typing import Any

# Two options are searched, and one that depends on the second.
FIXED = (
    "--units=4",
    "--epochs=2",
    "--cell=gru",
    "--depth=1",
    "--no-bidirectional",
    "--dropout=0.1",
)
TUNE = ("tune", "japanese_vowels", *FIXED, "--batch-size=17")


def results(folder: Path | str) -> list[dict[str, Any]]:
    """The trials, the best one first."""
    return json.loads((Path(folder) / "results.json").read_text())["trials"]
