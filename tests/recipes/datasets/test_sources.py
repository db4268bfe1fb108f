"""Files come from the mirror, the kept copy or their publisher, in this order, always verified."""

import dataclasses
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import urllib.error
from importlib.util import find_spec
from pathlib import Path

import pytest

from kerasrnn.files import WriteError
from kerasrnn.recipes.datasets import sources
from kerasrnn.recipes.datasets.sources import SourceError
from tests.recipes.datasets.archives import (
    deb,
    pinned,
    pinned_deb,
    pinned_file,
    pinned_node,
    tar,
    wheel,
)

MEMBERS = {"vowels/data/train.ts": b"ae\n", "vowels/data/test.ts": b"ea\n"}
CONTENT = wheel(MEMBERS)
SOURCE = pinned(CONTENT)
SDIST_CONTENT = tar(MEMBERS)
SDIST = pinned(SDIST_CONTENT, "vowels-1.0.tar.gz")
DEB_CONTENT = deb(MEMBERS)
DEB = pinned_deb(DEB_CONTENT)
NODE = pinned_node(SDIST_CONTENT)
TEXT = b"ae\nea\n"
FILE = pinned_file(TEXT)


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
        self.environment = kwargs["env"]
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
    def test_is_searched_first_and_used_in_place(self, folder, mirror):
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

    @pytest.mark.parametrize(
        ("source", "content"),
        [(SDIST, SDIST_CONTENT), (DEB, DEB_CONTENT), (FILE, TEXT)],
        ids=["sdist", "deb", "file"],
    )
    def test_contains_every_kind(self, folder, mirror, source, content):
        kept = mirror / source.location
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)
        assert source.fetch(folder, mirror) == kept
        kept.write_bytes(content + b" ")
        with pytest.raises(SourceError, match=r"is not the pinned file of .*vowels"):
            source.fetch(folder, mirror)

    def test_a_mirror_without_the_archive_is_skipped(self, folder, tmp_path, use_pip):
        use_pip()
        assert SOURCE.fetch(folder, tmp_path) == folder / SOURCE.archive

    def test_a_file_instead_of_a_folder_is_an_error(self, folder, tmp_path):
        with pytest.raises(SourceError, match=r"mirror .*typo is not a folder.*KERASRNN_MIRROR"):
            SOURCE.fetch(folder, tmp_path / "typo")

    def test_a_wrong_hash_is_an_error_and_the_file_remains(self, folder, mirror):
        other = CONTENT[:-1] + b"?"
        (mirror / SOURCE.archive).write_bytes(other)
        with pytest.raises(SourceError) as caught:
            SOURCE.fetch(folder, mirror)
        assert str(mirror / SOURCE.archive) in str(caught.value)
        found = hashlib.sha256(other).hexdigest()
        assert f"expected sha256 {SOURCE.sha256}, found {found}." in str(caught.value)
        assert "Replace it with the pinned file" in str(caught.value)
        assert (mirror / SOURCE.archive).read_bytes() == other

    @pytest.mark.parametrize("size", [0, len(CONTENT) - 1, 200 * 10**9])
    def test_the_size_is_compared_before_reading(self, folder, mirror, monkeypatch, size):
        os.truncate(mirror / SOURCE.archive, size)  # sparse: nothing is written
        monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it was read"))
        with pytest.raises(SourceError, match=f"expected {len(CONTENT)} bytes, found {size}. Rep"):
            SOURCE.fetch(folder, mirror)


class TestDownload:
    def test_downloads_only_the_wheel(self, folder, use_pip, capsys):
        pip = use_pip()
        assert SOURCE.fetch(folder) == folder / SOURCE.archive
        assert [path.name for path in folder.iterdir()] == [SOURCE.archive]
        assert (folder / SOURCE.archive).read_bytes() == CONTENT
        error = capsys.readouterr().err
        assert error.startswith("Downloading vowels 1.0 (0.0 MB)")
        assert error.count("\n") == 1

        assert pip.requirements == f"vowels==1.0 --hash=sha256:{SOURCE.sha256}\n"
        assert pip.command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
        assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} < set(pip.command)

    @pytest.mark.skipif(find_spec("pip") is None, reason="this environment has no pip")
    def test_the_options_exist_in_pip(self):
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
        for option in ["--no-binary", "--use-pep517", "--no-build-isolation"]:
            assert option in known

    def test_downloads_once(self, folder, use_pip):
        use_pip()
        SOURCE.fetch(folder)
        SOURCE.fetch(folder)  # FakePip fails when it is run twice

    def test_a_damaged_copy_is_downloaded_again(self, folder, use_pip, capsys):
        folder.mkdir()
        (folder / SOURCE.archive).write_bytes(CONTENT[:-1])
        use_pip()
        assert SOURCE.fetch(folder).read_bytes() == CONTENT
        assert "It is downloaded again" in capsys.readouterr().err

    def test_a_damaged_copy_is_deleted_if_the_download_fails(self, folder):
        folder.mkdir()
        (folder / SOURCE.archive).write_bytes(CONTENT[:-1])
        with pytest.raises(SourceError, match="could not be downloaded"):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("output", ["No module named pip", "1\n2\n3\n4\n5\n6\n7\n8", ""])
    def test_errors_list_the_attempts(self, folder, use_pip, output):
        # What pip had fetched in part must go too.
        use_pip(content=CONTENT[:10], status=1, output=output)
        with pytest.raises(SourceError) as caught:
            SOURCE.fetch(folder)
        message = str(caught.value)
        assert f"{SOURCE.archive} could not be downloaded" in message
        assert "status 1" in message
        assert "\n    ".join(output.splitlines()[-6:]) in message
        assert "\n    2\n" not in message
        assert "-m pip download --no-deps --require-hashes" in message
        assert sources.MIRROR_VARIABLE in message
        assert list(folder.iterdir()) == []

    def test_a_command_that_leaves_no_file_has_failed(self, folder, use_pip):
        use_pip(archive="vowels-1.0-py2-none-any.whl")
        with pytest.raises(SourceError, match="could not be downloaded"):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    def test_a_wrong_hash_leaves_no_file(self, folder, use_pip):
        use_pip(content=bytes(len(CONTENT)))
        with pytest.raises(SourceError, match=f"expected sha256 {SOURCE.sha256}, found "):
            SOURCE.fetch(folder)
        assert list(folder.iterdir()) == []

    def test_an_interrupt_leaves_no_file(self, folder, monkeypatch, use_pip):
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
    def test_after_a_kill_the_next_download_succeeds(self, folder, use_pip):
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


class TestSourceArchive:
    @pytest.mark.skipif(find_spec("pip") is None, reason="this environment has no pip")
    def test_is_downloaded_with_pip_which_runs_no_code_of_it(self, folder, tmp_path, monkeypatch):
        # pip itself, with a folder in the place of the index. The setup script would end the build,
        # as old ones do under today's setuptools, and leave a trace.
        index, trace = tmp_path / "index", tmp_path / "trace"
        index.mkdir()
        setup = f"open({str(trace)!r}, 'w'); raise SystemExit('setup.py ran')".encode()
        content = tar({"vowels-1.0/setup.py": setup, "vowels-1.0/data.ts": b"ae\n"})
        (index / SDIST.archive).write_bytes(content)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(index))
        monkeypatch.setattr(sources, "subprocess", subprocess)

        source = pinned(content, SDIST.archive)
        kept = source.fetch(folder)
        assert source.read(kept, "vowels-1.0/data.ts") == b"ae\n"
        assert [path.name for path in folder.iterdir()] == [SDIST.archive]
        assert not trace.exists()

    def test_the_path_variable_keeps_the_users_folders(self, folder, use_pip, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "mine")
        pip = use_pip(content=SDIST_CONTENT, archive=SDIST.archive)
        SDIST.fetch(folder)
        backend, mine = pip.environment["PYTHONPATH"].split(os.pathsep)
        assert Path(backend).name == "backend"
        assert mine == "mine"
        assert {"--no-binary=:all:", "--use-pep517", "--no-build-isolation"} < set(pip.command)

    def test_errors_name_the_command_for_another_machine(self, folder):
        with pytest.raises(SourceError, match=r"download --no-deps --no-binary=:all: vowels==1.0"):
            SDIST.fetch(folder)


class FakeClient:
    """Stands for `subprocess` in the module: brings a file into the working folder."""

    PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT

    def __init__(self, archive, content, status=0, output=""):
        self.archive, self.content, self.command = archive, content, None
        self.status, self.output = status, output

    def run(self, command, *, cwd, **kwargs):
        self.command = command
        if self.content is not None:
            Path(cwd, self.archive).write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.status, self.output)


@pytest.fixture
def use_client(monkeypatch):
    """Put a `FakeClient` in the place of apt-get or npm and return it."""

    def use(name, source, content, *, found=True, **kwargs):
        client = FakeClient(source.archive, content, **kwargs)
        monkeypatch.setattr(sources, "subprocess", client)
        monkeypatch.setattr(sources.shutil, "which", {name: f"/usr/bin/{name}" * found or None}.get)
        return client

    return use


class TestNodePackage:
    def test_is_downloaded_with_npm(self, folder, use_client):
        npm = use_client("npm", NODE, SDIST_CONTENT)
        assert NODE.fetch(folder).read_bytes() == SDIST_CONTENT
        assert npm.command == ["/usr/bin/npm", "pack", "--ignore-scripts", "vowels@1.0"]
        assert NODE.read(folder / NODE.archive, "vowels/data/test.ts") == b"ea\n"

    def test_without_npm_the_error_names_the_remedy(self, folder, use_client):
        use_client("npm", NODE, None, found=False)
        with pytest.raises(SourceError, match=r"no npm to download it\. .*npm pack vowels@1\.0"):
            NODE.fetch(folder)

    def test_errors_list_the_attempts(self, folder, use_client):
        use_client("npm", NODE, None, status=1, output="npm error code E404\n")
        with pytest.raises(
            SourceError, match=r"status 1; its last lines were:\n    npm error code"
        ):
            NODE.fetch(folder)

    def test_other_content_leaves_no_file(self, folder, use_client):
        use_client("npm", NODE, b"other")
        with pytest.raises(SourceError, match="Check which server or package index"):
            NODE.fetch(folder)
        assert list(folder.iterdir()) == []

    def test_other_endings_are_refused(self):
        with pytest.raises(ValueError, match=r"a file name that ends with \.tgz, found 'v\.zip'"):
            dataclasses.replace(NODE, archive="v.zip")


class TestDebianPackage:
    @pytest.fixture
    def use_apt(self, use_client):
        def use(*, content=DEB_CONTENT, **kwargs):
            return use_client("apt-get", DEB, content, **kwargs)

        return use

    def test_is_downloaded_with_apt(self, folder, use_apt):
        apt = use_apt()
        assert DEB.fetch(folder).read_bytes() == DEB_CONTENT
        assert apt.command == ["/usr/bin/apt-get", "download", "vowels=1.0"]
        assert [path.name for path in folder.iterdir()] == [DEB.archive]

    def test_without_apt_the_error_names_the_remedy(self, folder, use_apt):
        use_apt(found=False)
        with pytest.raises(SourceError) as caught:
            DEB.fetch(folder)
        message = str(caught.value)
        assert "this machine has no apt-get to download it" in message
        assert "Download version 1.0 of Debian's package vowels from Debian" in message
        assert f"as {DEB.archive}, and set the environment variable" in message
        assert list(folder.iterdir()) == []

    def test_errors_list_the_attempts(self, folder, use_apt):
        use_apt(content=None, status=100, output="E: Unable to locate package vowels\n")
        with pytest.raises(SourceError) as caught:
            DEB.fetch(folder)
        message = str(caught.value)
        assert "status 100" in message
        assert "E: Unable to locate package vowels" in message
        assert "The command was: /usr/bin/apt-get download vowels=1.0" in message
        assert "run apt-get update" in message
        assert sources.MIRROR_VARIABLE in message

    def test_other_content_leaves_no_file(self, folder, use_apt):
        use_apt(content=b"other")
        with pytest.raises(SourceError, match="Check which server or package index"):
            DEB.fetch(folder)
        assert list(folder.iterdir()) == []

    @pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian")
    def test_the_test_package_is_valid(self, tmp_path):
        # What the tests read must be what Debian's own tool takes for a package.
        (tmp_path / DEB.archive).write_bytes(DEB_CONTENT)
        command = ["dpkg-deb", "--contents", str(tmp_path / DEB.archive)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "./vowels/data/train.ts" in listed

    def test_without_data_is_an_error(self, tmp_path):
        content = DEB_CONTENT.replace(b"data.tar.xz", b"date.tar.xz")
        (tmp_path / DEB.archive).write_bytes(content)
        with pytest.raises(SourceError, match=r"not a Debian package: it contains no data.tar"):
            pinned_deb(content).read(tmp_path / DEB.archive, "vowels/data/test.ts")


class TestPublishedFile:
    @pytest.fixture
    def answer(self, monkeypatch):
        """A function that makes the file's address answer with some bytes, or an error."""

        def put(answer):
            def urlopen(url, timeout):
                assert url == "https://vowels.example/all/vowels.txt"
                assert timeout > 0
                if isinstance(answer, Exception):
                    raise answer
                return io.BytesIO(answer)

            monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)

        return put

    def test_is_downloaded_from_its_address(self, folder, answer, capsys):
        answer(TEXT)
        kept = FILE.fetch(folder)
        assert kept == folder / "vowels" / "all.txt"
        assert FILE.read(kept) == TEXT
        assert [path.name for path in folder.iterdir()] == ["vowels"]
        error = capsys.readouterr().err
        assert error.startswith("Downloading https://vowels.example/all/vowels.txt (0.0 MB)")

        answer(OSError("must not be asked again"))
        assert FILE.fetch(folder) == kept

    def test_a_download_stops_at_the_pinned_size(self, folder, answer, monkeypatch):
        monkeypatch.setattr(sources, "_CHUNK", 4)
        answer(TEXT)
        assert FILE.read(FILE.fetch(folder)) == TEXT
        shutil.rmtree(folder)

        answer(TEXT * 1000)
        with pytest.raises(SourceError, match="expected 6 bytes, found 7"):
            FILE.fetch(folder)
        assert [path.name for path in folder.rglob("*")] == ["vowels"]

    @pytest.mark.parametrize(
        "error",
        [
            urllib.error.URLError("Name or service not known"),
            TimeoutError("The read operation timed out"),
            sources.http.client.BadStatusLine("?"),
        ],
    )
    def test_errors_name_the_remedy(self, folder, answer, error):
        answer(error)
        with pytest.raises(SourceError) as caught:
            FILE.fetch(folder)
        message = str(caught.value)
        assert f"https://vowels.example/all/vowels.txt could not be downloaded: {error}" in message
        assert "put it into a folder as vowels/all.txt, and set the environment variable" in message
        assert [path.name for path in folder.rglob("*")] == ["vowels"]

    def test_a_full_disk_is_reported(self, folder, answer):
        answer(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(WriteError, match=r"vowels/all.txt cannot be written: No space left"):
            FILE.fetch(folder)

    def test_read_checks_the_hash(self, tmp_path):
        (tmp_path / "all.txt").write_bytes(b"ae\n")
        with pytest.raises(SourceError, match="is not the pinned file of https://vowels"):
            FILE.read(tmp_path / "all.txt")


class TestRead:
    @pytest.mark.parametrize(
        ("source", "content"),
        [(SOURCE, CONTENT), (SDIST, SDIST_CONTENT), (DEB, DEB_CONTENT)],
        ids=["wheel", "sdist", "deb"],
    )
    def test_returns_the_bytes_of_a_member(self, tmp_path, source, content):
        path = tmp_path / source.archive
        path.write_bytes(content)
        for member, data in MEMBERS.items():
            assert source.read(path, member) == data
        with pytest.raises(SourceError, match=r"no file 'vowels/data'.*vowels/data/test.ts"):
            source.read(path, "vowels/data")

    def test_a_missing_member_is_an_error_that_lists_similar_ones(self, mirror):
        with pytest.raises(SourceError) as caught:
            SOURCE.read(mirror / SOURCE.archive, "vowels/data/tests.ts")
        assert "contains no file 'vowels/data/tests.ts'" in str(caught.value)
        assert "vowels/data/test.ts" in str(caught.value)

    def test_a_missing_member_without_similar_ones(self, mirror):
        with pytest.raises(SourceError, match="similar names are: none"):
            SOURCE.read(mirror / SOURCE.archive, "?")

    def test_checks_the_hash_before_the_archive_is_opened(self, mirror):
        changed = wheel({"vowels/data/test.ts": b"changed\n"})
        (mirror / SOURCE.archive).write_bytes(changed)
        with pytest.raises(SourceError, match=r"is not the pinned file of vowels 1.0"):
            SOURCE.read(mirror / SOURCE.archive, "vowels/data/test.ts")


class TestPin:
    @pytest.mark.parametrize("archive", ["vowels-1.0.zip", "../vowels-1.0-py3-none-any.whl", ""])
    def test_is_of_a_wheel_or_source_archive(self, archive):
        with pytest.raises(ValueError, match=r"file name that ends with .whl or .tar.gz, found '"):
            dataclasses.replace(SOURCE, archive=archive)

    def test_is_of_a_debian_package(self):
        with pytest.raises(ValueError, match=r"file name that ends with .deb, found '.*whl'"):
            dataclasses.replace(DEB, archive=SOURCE.archive)

    @pytest.mark.parametrize(
        "source", [SOURCE, SDIST, DEB, FILE], ids=["wheel", "sdist", "deb", "file"]
    )
    @pytest.mark.parametrize("sha256", ["", "0" * 63, "A" * 64, "0" * 64 + "\n"])
    def test_needs_a_complete_hash(self, source, sha256):
        with pytest.raises(ValueError, match="64 lower-case hex digits"):
            dataclasses.replace(source, sha256=sha256)

    @pytest.mark.parametrize("url", ["http://vowels.example/all", "file:///vowels", ""])
    def test_address_is_https(self, url):
        with pytest.raises(ValueError, match=r"url must begin with https://, found '"):
            dataclasses.replace(FILE, url=url)

    @pytest.mark.parametrize(
        "path", ["/all.txt", "../all.txt", "a/../b", "a//b", "a\\b", "c:b", ""]
    )
    def test_path_stays_in_the_folder(self, path):
        with pytest.raises(ValueError, match="path must be relative"):
            dataclasses.replace(FILE, path=path)
