"""The command line with the stand-ins for data and model, for a chief and its workers.

python -P tuned.py tune japanese_vowels ...
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT))

from kerasrnn.__main__ import main  # noqa: E402
from kerasrnn.recipes.tuning import chief  # noqa: E402
from tests.processes import Forked  # noqa: E402
from tests.recipes import made_up  # noqa: E402


def prepare() -> None:
    """Replace data and model, and let a chief fork its workers."""
    made_up.recipe(light=True)
    made_up.slow_down()
    subprocess.Popen = Forked
    chief.COMMAND = (sys.executable, "-P", __file__)
    chief.PERIOD = 0.5
    if chief.PARENT in os.environ:
        os.environ[chief.PARENT] = str(os.getppid())  # the server that forks


if __name__ == "__main__":
    prepare()
    sys.exit(main(sys.argv[1:]))
