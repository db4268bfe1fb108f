"""`kerasrnn` and `python -m kerasrnn`."""

import os
import sys
from collections.abc import Sequence

UNREAD = 128 + 13
"""The exit status if nobody reads the output any more: 128 and the number of SIGPIPE, which not
every system has."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: see `kerasrnn.recipes.command.main.run`."""
    if sys.stdout is None or sys.stderr is None:
        # Their numbers would be given to the next files that are opened.
        if sys.stderr is not None:
            sys.stderr.write("kerasrnn: the standard output is closed; expected it to be open.\n")
        return 1

    from kerasrnn.recipes.command import run

    try:
        try:
            code = run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # of help, too, after which Python exits
    except BrokenPipeError:
        # Whoever read the output has stopped (`| head`): what SIGPIPE does to other programs.
        _drop_output()
        return UNREAD
    except OSError as error:
        if error.filename is not None:
            raise
        sys.stderr.write(f"kerasrnn: the output cannot be written: {error.strerror}.\n")
        _drop_output()
        return 1
    return code


def _drop_output() -> None:
    """Send what is still to be written nowhere, so that Python does not fail on it as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
