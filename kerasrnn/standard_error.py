"""Filters the standard error's file descriptor, to which compiled code writes directly."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def filtered(passed_on: Callable[[bytes], bytes]) -> Iterator[None]:
    """Hold back what is written to the standard error; then write the result of a function of it.

    If the block raises an error, everything is written, since it may explain the error. Without a
    standard error, nothing is held back.

    Args:
        passed_on: takes the text held back and returns the part to write.
    """
    try:
        original = os.dup(2)
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
        except Exception:  # not Ctrl-C, which the text does not explain
            failed = True
            raise
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            remarks.seek(0)
            captured = remarks.read()
            text = captured if failed else passed_on(captured)
            if text:
                os.write(2, text)
