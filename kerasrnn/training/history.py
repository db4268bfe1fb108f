"""The metrics of each epoch: `log.csv`, and the same for TensorBoard.

The checkpoint is the only source; both logs are written from it, so that they have each epoch
exactly once, even after an interruption.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrnn.files import remove, replacing

Row = Mapping[str, float]

TIMES = ("learning_rate", "seconds")
"""Columns of a log besides the epoch and the metrics."""


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a log as CSV: one row per epoch, counted from 0 as in Keras."""
    names = ["epoch", *sorted({name for row in rows for name in row} - {"epoch"})]
    with replacing(path) as scratch, scratch.open("w", newline="") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


class Board:
    """Write the metrics for TensorBoard, with the folders and names of Keras's callback.

    Args:
        folder: the folder of the files.
        rows: the completed epochs, which are written again.
    """

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._writers: dict[str, Any] = {}
        for part in ("train", "validation"):
            for old in (folder / part).glob("events.*"):
                remove(old)
        self._folder = folder
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """The metrics of an epoch."""
        for name, value in row.items():
            if name == "epoch":
                continue
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._writers:
                self._writers[part] = self._summary.create_file_writer(str(self._folder / part))
            with self._writers[part].as_default(step=int(row["epoch"])):
                self._summary.scalar(f"epoch_{name.removeprefix('val_')}", value)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
