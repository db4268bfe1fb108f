"""Prepared once, whoever asks; looked through before anything is trained on it."""

import errno
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kerasrnn.files import WriteError
from kerasrnn.recipes import datasets
from kerasrnn.recipes.base.errors import SourceError
from kerasrnn.recipes.datasets.japanese_vowels import japanese_vowels_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE
from tests.recipes.datasets.archives import pinned, wheel
from tests.recipes.datasets.test_japanese_vowels import COUNTS, DUMMY_DATA

pytestmark = pytest.mark.tensorflow

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a dataset of three and two utterances, prepared by TFDS itself."""
    mirror = tmp_path_factory.mktemp("mirror")
    content = wheel({n: (DUMMY_DATA / Path(n).name).read_bytes() for n in module.MEMBERS.values()})
    source = pinned(content)
    (mirror / source.archive).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "UTTERANCES", COUNTS)
        patch.setattr(module.Builder, "source", source)
        patch.setenv(MIRROR_VARIABLE, str(mirror))
        folder = tmp_path_factory.mktemp("data")
        splits, _ = datasets.load("japanese_vowels", SPLITS, str(folder))
    assert {name: len(list(split)) for name, split in splits.items()} == COUNTS
    assert sorted(path.name for path in folder.iterdir()) == ["downloads", "japanese_vowels"]
    return folder


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


TRAIN = "japanese_vowels-train.tfrecord-00000-of-00001"
TEST = "japanese_vowels-test.tfrecord-00000-of-00001"
DAMAGES = {
    "a cut record": lambda f: os.truncate(f / TRAIN, 449),
    "records cut off": lambda f: os.truncate(f / TEST, 100),
    "an empty file": lambda f: os.truncate(f / TEST, 0),
    "a missing shard": lambda f: (f / TRAIN).unlink(),
    "another byte": lambda f: flip(f / TEST, 200),
    "another length": lambda f: flip(f / TRAIN, 0),
    "the other split": lambda f: shutil.copy(f / TRAIN, f / TEST),
    "no info": lambda f: (f / "dataset_info.json").unlink(),
    "half an info": lambda f: os.truncate(f / "dataset_info.json", 500),
    "an empty info": lambda f: (f / "dataset_info.json").write_text("{}"),
    "nothing at all": lambda f: [path.unlink() for path in f.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_dataset_is_an_error_before_training(prepared, tmp_path, damage):
    shutil.copytree(prepared, tmp_path / "data")
    folder = tmp_path / "data" / "japanese_vowels" / "1.0.0"
    damage(folder)
    with pytest.raises(SourceError) as error:
        datasets.load("japanese_vowels", SPLITS, str(tmp_path / "data"), as_supervised=True)
    said = str(error.value)
    assert said.startswith(f"the prepared dataset in {tmp_path / 'data' / 'japanese_vowels'}")
    assert said.endswith("): delete that folder to prepare the dataset again.")
    assert "\n" not in said


class Made:
    """A builder that takes a while, and fails as TFDS does where two are at it."""

    def __init__(self, root, error=None):
        self.data_dir_root, self.data_path = root, root / "vowels" / "1.0.0"
        self.info, self.error = self, error
        self.full_name = "vowels/1.0.0"

    def download_and_prepare(self):
        if self.data_path.exists():
            return
        if self.error is not None:
            raise self.error
        (self.data_path.parent / "incomplete").mkdir(parents=True)
        time.sleep(0.3)
        (self.data_path.parent / "incomplete").rename(self.data_path)
        prepared_by.append(threading.current_thread())


prepared_by = []


def test_one_process_prepares_and_the_others_wait(tmp_path, capsys):
    prepared_by.clear()
    failed = []

    def prepare():
        try:
            datasets._prepare(Made(tmp_path / "data"))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failed == []
    assert len(prepared_by) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["vowels"]
    told = capsys.readouterr().err
    assert told.count("is in use: preparing vowels/1.0.0 by process") == 2
    assert told.count("Waiting for it.\n") == 2


def test_a_failed_preparation_leaves_no_empty_folder(tmp_path):
    """Only folders that it has created are removed, and only without files."""

    class Failing(Made):
        def download_and_prepare(self):
            for folder in ("vowels", "downloads/vowels", "downloads/extracted"):
                (self.data_dir_root / folder).mkdir(parents=True, exist_ok=True)
            for name in self.written:
                (self.data_dir_root / name).touch()
            raise OSError("No network.")

    (tmp_path / "downloads" / "old").mkdir(parents=True)
    for data, written, left in (
        ("a/b", (), set()),
        ("", ("downloads/extracted/file",), {"downloads/extracted", "downloads/extracted/file"}),
    ):
        builder = Failing(tmp_path / data)
        builder.written = written
        with pytest.raises(SourceError, match=r"cannot be prepared in .*: No network"):
            datasets._prepare(builder)
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
        assert found == {"downloads", "downloads/old", *left}


def test_a_full_disk_is_an_error_of_one_line(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(WriteError, match=rf"^{tmp_path} cannot be written: No space left on dev"):
        datasets._prepare(Made(tmp_path, full))
    little = OSError("Not enough disk space. Needed: 3.0 GiB (download: 1.0 GiB, ...)")
    with pytest.raises(SourceError, match=rf"^vowels/1.0.0 cannot be prepared in {tmp_path}: Not"):
        datasets._prepare(Made(tmp_path, little))
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="data cannot be written: Not a directory"):
        datasets._prepare(Made(tmp_path / "file" / "data"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("answer", [None, b"HTTP/1.0 404 Not Found\r\n\r\n"], ids=["none", "404"])
def test_a_failed_download_is_reported_soon(answer, tmp_path, monkeypatch):
    """TFDS alone asks for more than three minutes."""
    from tensorflow_datasets.core.download import downloader

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/images.zip"

        def serve():
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(answer)

        if answer is None:
            server.close()
        else:
            threading.Thread(target=serve, daemon=True).start()
        before = downloader.MAX_RETRIES, downloader._open_url

        def prepare():
            assert downloader._open_url.keywords == {"timeout": datasets.TIMEOUTS}
            with downloader._open_url(url):
                pytest.fail("it was fetched")

        made = SimpleNamespace(
            data_dir_root=tmp_path,
            data_path=tmp_path / "pictures",
            info=SimpleNamespace(full_name="pictures/1.0.0"),
            download_and_prepare=prepare,
        )
        start = time.monotonic()
        with pytest.raises(SourceError, match=rf"^pictures/1.0.0 cannot be prepared .*{url}"):
            datasets._prepare(made)
    assert time.monotonic() - start < 10
    assert (downloader.MAX_RETRIES, downloader._open_url) == before
