"""The file descriptor behind the standard error, to which compiled code writes past Python."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def filtered(passed_on: Callable[[bytes], bytes]) -> Iterator[None]:
    """Hold back what is written to it; afterwards write what a function makes of all of it.

    If the block raises an error, all of it is written: it may explain the error. Where there is no
    standard error, nothing is held back.

    Args:
        passed_on: of what was held back, the part that is written.
    """
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as remarks:
        os.dup2(remarks.fileno(), 2)
        failed = False
        try:
            yield
        except Exception:  # not Ctrl-C, which they do not explain
            failed = True
            raise
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            remarks.seek(0)
            said = remarks.read()
            text = said if failed else passed_on(said)
            if text:
                os.write(2, text)
