"""Runs that are killed repeatedly, in a process that test_survival.py starts.

Each life of a run is a forked process, which kills itself at a random moment. The next one resumes.
"""

import json
import os
import random
import signal
import threading
from pathlib import Path

import kerasrnn.files
from kerasrnn.recipes import training
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.reporting import exporting, pictures
from kerasrnn.training import checkpoints
from kerasrnn.training.loop import Loop
from tests.recipes import made_up

CONFIG = {"validation": 0.25, "keep": "best", "epochs": 3, "batch_size": 9}
LIVES = 4


class Fate:
    """Kills this process at its n-th event."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0

    def event(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, place: object, name: str) -> None:
        """Each call is an event before and an event after."""
        original = getattr(place, name)

        def wrapped(*args, **kwargs):
            self.event()
            result = original(*args, **kwargs)
            self.event()
            return result

        setattr(place, name, wrapped)

    def halves(self, place: object, name: str) -> None:
        """A half-written file is an event."""
        original = getattr(place, name)

        def wrapped(file, **arrays):
            file.write(b"PK")
            file.flush()
            self.event()
            file.seek(0)
            return original(file, **arrays)

        setattr(place, name, wrapped)


def live(
    folder: Path, at: int | None = None, after: float | None = None, exports: bool = False
) -> int:
    """Train, or resume the training, in a child; its number of events, or -1 if it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            output = pipe.read()
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return -1
        assert status == 0, status
        return int(output)
    fate = Fate(at)
    fate.halves(checkpoints.np, "savez")
    for place, name in (
        (os, "replace"),
        (Loop, "train"),
        (Run, "save_model"),
        (pictures, "learning_curves"),
        (kerasrnn.files.shutil, "rmtree"),
    ):
        fate.wrap(place, name)
    if after is not None:
        timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    recipe, config = made_up.recipe(light=True), made_up.small(**CONFIG)
    execution = Execution(strategy="one", checkpoint_minutes=0.0)
    data = recipe.load(config)
    run = Run(folder)
    if not (folder / "config.json").is_file():
        run = Run.create(recipe, config, folder, execution)
    if not run.finished:
        training.train(recipe, config, run, data, execution)
    if exports:
        place = folder / "export"
        exporting.export(recipe, run.load_model(), data, config, place, ["onnx"], False, 1e-5)
    os.write(write, str(fate.count).encode())
    os._exit(0)


def main(above: str) -> None:
    """An uninterrupted run, and one that is killed."""
    folder = Path(above)
    events = live(folder / "whole")
    drawn = random.Random(0)
    lives = []
    for number in range(LIVES):
        # Every third life ends at a time instead of at an event.
        at = drawn.randint(1, events // 5) if (number + 1) % 3 else None
        after = None if at else drawn.uniform(0.1, 0.4)
        lives.append([at, after, live(folder / "killed", at, after)])
    last = live(folder / "killed")
    lives.append([3, None, live(folder / "killed", 3, exports=True)])
    live(folder / "killed", exports=True)
    (folder / "lives.json").write_text(json.dumps({"events": events, "lives": lives, "last": last}))
