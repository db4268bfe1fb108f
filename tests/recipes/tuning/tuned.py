"""The command line, with the stand-in data: what chief and workers of a test are started as.

python -P tuned.py tune japanese_vowels ...
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT))

from kerasrnn import recipes  # noqa: E402
from kerasrnn.__main__ import main  # noqa: E402


def stand_in():
    from kerasrnn.recipes.tuning import chief
    from kerasrnn.training.loop import Loop
    from kerasrnn.training.step import TrainingModel
    from tests.recipes import made_up

    recipe, made = recipes.load("japanese_vowels"), made_up.data()
    type(recipe).load = lambda self, config, data_dir=None: made
    TrainingModel.compile_loops = lambda self: None
    chief.COMMAND = (sys.executable, "-P", __file__)
    chief.PERIOD = 0.5
    original = Loop.train

    def slowly(self, batches, steps):
        time.sleep(float(os.environ.get("SECONDS_A_STEP", "0")))
        return original(self, batches, steps)

    Loop.train = slowly


if __name__ == "__main__":
    stand_in()
    sys.exit(main(sys.argv[1:]))
