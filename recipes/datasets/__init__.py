"""Dataset builders of the recipes. Importing this package registers them with TFDS.

```python
import tensorflow_datasets as tfds
import kerasrnn.recipes.datasets

train, test = tfds.load("japanese_vowels", split=["train", "test"], as_supervised=True)
```

Each folder is a dataset: its builder, `README.md`, `CITATIONS.bib` and `TAGS.txt`. See
`kerasrnn.recipes.datasets.pinned`.
"""

import contextlib
import functools
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasrnn.files import create_folder, locked, remove_if_empty, writing
from kerasrnn.recipes.base.errors import SourceError
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import tensorflow as tf

RETRIES, TIMEOUTS = 3, (10, 60)
"""Number of retries, and timeouts in seconds for connecting and between two chunks."""

READ = 1 << 30
"""Largest size in bytes of a split whose records are read before training to verify checksums."""

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))
"""The datasets of this package: one for each folder."""

for _name in NAMES:
    importlib.import_module(f"{__name__}.{_name}")


def load(
    name: str, splits: Sequence[str], data_dir: str | None = None, as_supervised: bool = False
) -> tuple[dict[str, "tf.data.Dataset"], Any]:
    """Load splits of a dataset, downloading and preparing it if necessary; also returns its `info`.

    Args:
        name: a dataset of this package, or of the TFDS catalogue.
        splits: names of the splits.
        data_dir: the TFDS data directory; default: TFDS's own.
        as_supervised: whether examples are pairs.

    Raises:
        SourceError: the dataset cannot be obtained, or the prepared files are damaged.
        WriteError: the dataset cannot be written.
    """
    tfds_builder = builder(name, data_dir)
    _prepare(tfds_builder)
    _check(tfds_builder, splits)
    datasets = tfds_builder.as_dataset(split=list(splits), as_supervised=as_supervised)
    return dict(zip(splits, datasets, strict=True)), tfds_builder.info


def builder(name: str, data_dir: str | None = None) -> Any:
    """The TFDS builder of a dataset; reads what was prepared before.

    Raises:
        SourceError: the dataset's folder is damaged.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # any error of TFDS, for example from JSON
        folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / name
        if not folder.is_dir():
            raise
        raise _damaged(folder, error) from error


def _prepare(tfds_builder: Any) -> None:
    """Download and prepare a dataset if necessary, in only one of several processes.

    Raises:
        SourceError: the dataset cannot be obtained.
        WriteError: the dataset cannot be written.
    """
    root = tfds_builder.data_dir_root
    if tfds_builder.data_path.exists() or "://" in str(root):
        tfds_builder.download_and_prepare()
        return

    def wait(message: str) -> None:
        sys.stderr.write(f"{message} Waiting for it.\n")

    name = tfds_builder.info.full_name
    lock = f".{name.replace('/', '-')}.lock"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_empty_folders(Path(root), Path(tfds_builder.data_path)))
        create_folder(root)
        stack.enter_context(writing(root))
        stack.enter_context(locked(root, f"preparing {name}", lock, wait))
        stack.enter_context(writing(root))
        try:
            with _few_retries():
                tfds_builder.download_and_prepare()
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = _failed_download(error) or (str(error) if isinstance(error, OSError) else None)
            if reason is None:
                raise
            raise SourceError(f"{name} cannot be prepared in {root}: {reason}") from error


@contextlib.contextmanager
def _no_empty_folders(root: Path, prepared: Path) -> Iterator[None]:
    """If the preparation fails, remove the folders that it has created and that hold no file.

    Args:
        root: the data directory, which may be new itself.
        prepared: the folder of the prepared dataset, below it.
    """
    tops = (root / prepared.relative_to(root).parts[0], root / "downloads")

    def existing() -> set[Path]:
        return {path for top in tops for path in (top, *top.glob("*")) if path.is_dir()}

    before = existing()
    above = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        for new in sorted(existing() - before, reverse=True):
            for path in (*sorted(new.rglob("*"), reverse=True), new):
                remove_if_empty(path)  # not a file, nor a folder that holds one
        for folder in above:
            remove_if_empty(folder)
        raise


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """A context in which downloads of TFDS time out after some seconds.

    TFDS has no option for this: by default it tries eleven times, minutes apart in the end, and
    waits for a response without a timeout.
    """
    from tensorflow_datasets.core.download import downloader

    tries, opened = downloader.MAX_RETRIES, downloader._open_url
    downloader.MAX_RETRIES = RETRIES
    downloader._open_url = functools.partial(opened, timeout=TIMEOUTS)
    try:
        yield
    finally:
        downloader.MAX_RETRIES, downloader._open_url = tries, opened


def _failed_download(error: Exception) -> str | None:
    """The failed download and its cause, if the error is from a download."""
    import requests
    from tensorflow_datasets.core.download.util import DownloadError

    if isinstance(error, DownloadError):  # of TFDS: a response that is not a file
        return str(error)
    if not isinstance(error, requests.RequestException):
        return None
    cause: BaseException = error
    while inner := next(
        (x for x in (getattr(cause, "reason", None), *cause.args) if isinstance(x, Exception)), None
    ):
        cause = inner
    url = error.request.url if error.request is not None else "a file"
    return f"{url} could not be downloaded, which needs a network connection: {cause}."


def _check(tfds_builder: Any, splits: Sequence[str]) -> None:
    """Check that the prepared dataset is complete before any training.

    Raises:
        SourceError: files are missing, damaged or empty.
    """
    import tensorflow as tf

    folder = tfds_builder.data_path
    if not folder.exists():  # datasets of tests
        return
    try:
        for split in splits:
            info = tfds_builder.info.splits[split]
            sizes = [os.path.getsize(path) for path in info.filepaths]
            if info.num_examples < 1 or not all(sizes):
                raise ValueError(f"the split {split!r} is empty")
            # A record has 16 bytes besides its content; 0: unknown to TFDS.
            expected = info.num_bytes + 16 * info.num_examples
            if tfds_builder.info.file_format.value != "tfrecord" or not info.num_bytes:
                continue
            if sum(sizes) != expected:
                raise ValueError(
                    f"the split {split!r} has {counted(sum(sizes), 'byte')}; expected {expected}"
                )
            if expected <= READ:
                records = tf.data.TFRecordDataset(info.filepaths)
                count = int(records.reduce(np.int64(0), lambda n, _: n + 1))
                if count != info.num_examples:
                    raise ValueError(
                        f"the split {split!r} has {counted(count, 'example')}; expected "
                        f"{info.num_examples}"
                    )
        tfds_builder.as_dataset(split=list(splits))
    except Exception as error:  # any error of TFDS and TensorFlow
        raise _damaged(folder, error) from error


def _damaged(folder: Any, error: Exception) -> SourceError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SourceError(
        f"the prepared dataset in {folder} is damaged ({reason.rstrip('.')}): delete that folder "
        "to prepare the dataset again."
    )
