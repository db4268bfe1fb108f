"""`kerasrnn` and `python -m kerasrnn`."""

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    if sys.stdout is None or sys.stderr is None:
        # Their numbers would be given to the next files that are opened.
        if sys.stderr is not None:
            sys.stderr.write("kerasrnn: the standard output is closed; expected it to be open.\n")
        return 1

    from kerasrnn.recipes.command import run

    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has stopped (`| head`).
        _drop_output()
        return 1
    except OSError as error:
        if error.filename is not None:
            raise
        sys.stderr.write(f"kerasrnn: the output cannot be written: {error.strerror}.\n")
        _drop_output()
        return 1
    return code


def _drop_output() -> None:
    """Send what is still to be written nowhere, so that Python does not fail on it as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
