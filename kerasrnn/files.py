"""Everything that is written to a disk goes through here: whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new place beside `path` that takes its name if all goes well, and disappears if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    for stray in path.parent.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(stray, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    try:
        new = scratch / path.name
        yield new
        if path.is_dir():
            shutil.move(path, scratch / "old")
        os.replace(new, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
