"""`kerasrnn` and `python -m kerasrnn`."""

import os
import sys
from collections.abc import Sequence

UNREAD = 128 + 13
"""The exit status when the process that reads the output has ended: 128 plus the number of SIGPIPE,
which some systems lack."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: see `kerasrnn.recipes.command.main.run`."""
    if sys.stdout is None or sys.stderr is None:
        # The next files to be opened would get the numbers of the missing streams.
        if sys.stderr is not None:
            sys.stderr.write("kerasrnn: the standard output is closed; expected it to be open.\n")
        return 1

    from kerasrnn.recipes.command import run

    try:
        try:
            code = run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # also after help, when Python exits
    except BrokenPipeError:
        # The reader has stopped (`| head`): exit as other programs do on SIGPIPE.
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
    """Discard pending output, so that Python does not fail on it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
