"""Progress reports of a training, for people and programs."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from kerasrnn.training.history import TIMES

MODES = ("auto", "bar", "lines", "json", "none")
"""The modes of `Progress`."""


class Progress:
    """Reports the progress of a training.

    Args:
        mode: "bar", a progress bar; "lines", a line per epoch; "json", a line of JSON per event;
            "none"; or "auto": a bar in a terminal, lines elsewhere.
        stream: the output stream; default: standard output.

    Raises:
        ValueError: `mode` is not one of these.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.training.Progress("lines").report("data", "8 examples", count=8)
        8 examples
    """

    def __init__(self, mode: str = "none", stream: Any = None) -> None:
        if not isinstance(mode, str) or mode not in MODES:
            raise ValueError(f"mode={mode!r}: expected one of {', '.join(MODES)}.")
        self.stream = sys.stdout if stream is None else stream
        if mode == "auto":
            mode = "bar" if self.stream.isatty() else "lines"
        self.mode = mode
        self._bar: Any = None

    def report(self, event: str, text: str, **facts: Any) -> None:
        """Report an event: `text` for people, `facts` for programs."""
        if self.mode == "json":
            self._write(json.dumps({"event": event, **facts}, ensure_ascii=False))
        elif self.mode != "none":
            self._write(text)

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Report the start: the numbers of epochs and steps, and the number of steps completed."""
        self.epochs, self.steps = epochs, steps
        self.done = self.first = done
        self._last = time.perf_counter()
        self._seconds, self._timed = 0.0, 0  # of the steps that count for estimates
        self._besides = 0.0  # seconds of the current epoch that were not spent in its steps
        self._pace_reported = False
        if self.mode == "bar":
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=epochs * steps,
                initial=done,
                unit="step",
                dynamic_ncols=True,
                file=self.stream,
                smoothing=0.05,
                leave=False,
            )

    def step(self, count: int, epoch: int, loss: Any, traced: bool = False) -> None:
        """Report completed steps.

        Args:
            count: their number.
            epoch: the epoch, from 0.
            loss: called for the current loss if it is shown.
            traced: whether TensorFlow traced or XLA compiled in them, as for the first batch of
                each shape: they are excluded from time estimates.
        """
        self.done += count
        seconds, done = self._lap(), self.done - self.first
        if not traced:
            self._seconds += seconds
            self._timed += count
        if done > self.steps:
            self._pace_reported = True  # a complete epoch has been seen
        elif not self._pace_reported and self._timed >= max(1, min(20, self.steps // 4)):
            self._pace_reported = True
            self._report_pace(self._seconds / self._timed)
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            if self._bar.update(count):
                self._bar.set_postfix(loss=f"{loss():.4f}", refresh=False)

    def evaluated(self, traced: bool = False) -> None:
        """Report a batch of the validation data; `traced` as in `step`."""
        seconds = self._lap()
        if not traced:
            self._besides += seconds

    def epoch(self, row: Mapping[str, float]) -> None:
        """Report the end of an epoch, with its row of the log."""
        number = int(row["epoch"]) + 1
        figures = {k: v for k, v in row.items() if k not in ("epoch", *TIMES)}
        besides, self._besides = self._besides + self._lap(), 0.0
        left = None  # unknown, if all steps of this process were traced
        if number == self.epochs:
            left = 0.0
        elif self._timed:
            left = self.left(self._seconds / self._timed) + besides * (self.epochs - number)
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())
        text = f"epoch {number}/{self.epochs}: {text}"
        if left:
            text += f" ({duration(left)} left)"
        self.report(
            "epoch", text, **{**row, "epoch": number}, epochs=self.epochs, seconds_left=left
        )

    def end(self) -> None:
        """Report the end of the training."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def left(self, seconds: float) -> float:
        """The estimated remaining seconds."""
        return seconds * (self.epochs * self.steps - self.done)

    def _lap(self) -> float:
        """The seconds since the previous call."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last

    def _report_pace(self, seconds: float) -> None:
        if seconds * self.steps < 1:
            return  # short enough to see without an estimate
        left = self.left(seconds)
        text = f"an epoch takes {duration(seconds * self.steps)}; {duration(left)} left"
        self.report("pace", text, seconds_per_step=seconds, seconds_left=left)

    def _write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """Format a time: `1 h 05 min`, `3 min 20 s`, `12 s`, `0.4 s`."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def size(count: float) -> str:
    """Format a number of bytes: `3.2 GB`, `410 MB`, `7 kB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return (
                f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"
            )
    return f"{count:.0f} B"
