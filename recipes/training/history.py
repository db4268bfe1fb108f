"""The metrics of each epoch: `log.csv`, and the same for TensorBoard.

What has happened is kept in the checkpoint alone; both are written from it, and so have no epoch
twice and none too few, whenever a run was cut off.
"""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from kerasrnn.files import remove, replacing
from kerasrnn.recipes.runs import Run

Row = Mapping[str, float]

TIMES = ("learning_rate", "seconds")
"""What the log says of an epoch besides its metrics."""


def write(run: Run, rows: Sequence[Row]) -> None:
    """`log.csv`: an epoch a row, from 0, as Keras counts."""
    names = ["epoch", *sorted({name for row in rows for name in row} - {"epoch"})]
    with replacing(run.path("log.csv")) as scratch, scratch.open("w", newline="") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


class Board:
    """The metrics for TensorBoard, in the folders and by the names that Keras's callback has.

    Args:
        run: whose.
        rows: of the epochs that are behind: they are written anew.
    """

    def __init__(self, run: Run, rows: Sequence[Row]) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        folder = run.path("tensorboard")
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
