"""Small archives for the tests, pinned in the way that the real ones are."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasrnn.recipes.datasets.sources import (
    DebianPackage,
    NodePackage,
    PackageArchive,
    PublishedFile,
)


def wheel(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip file with these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            # With no time of its own, the same archive is the same file.
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def tar(members: Mapping[str, bytes], compression: str = "gz") -> bytes:
    """The bytes of a compressed tar file with these members, such as a source archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{compression}") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def deb(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a Debian package with these members."""
    control = (
        b"Package: vowels\nVersion: 1.0\nArchitecture: all\nMaintainer: none\nDescription: -\n"
    )
    content = io.BytesIO(b"!<arch>\n")
    content.seek(0, io.SEEK_END)
    for name, data in {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar({"./control": control}, "xz"),
        "data.tar.xz": tar({f"./{name}": data for name, data in members.items()}, "xz"),
    }.items():
        content.write(f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode())
        content.write(data + b"\n" * (len(data) % 2))
    return content.getvalue()


def _pin(content: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"sha256": sha256, "size": len(content), "origin": "the tests", "licence": "none"}


def pinned(content: bytes, archive: str = "vowels-1.0-py3-none-any.whl") -> PackageArchive:
    """The pin of a package whose wheel, or other archive, has this content."""
    return PackageArchive(name="vowels", version="1.0", archive=archive, **_pin(content))


def pinned_deb(content: bytes) -> DebianPackage:
    """The pin of a Debian package with this content."""
    return DebianPackage(
        name="vowels", version="1.0", archive="vowels_1.0_all.deb", **_pin(content)
    )


def pinned_node(content: bytes) -> NodePackage:
    """The pin of a package of the npm registry with this content."""
    return NodePackage(name="vowels", version="1.0", archive="vowels-1.0.tgz", **_pin(content))


def pinned_file(content: bytes) -> PublishedFile:
    """The pin of a published file with this content."""
    return PublishedFile(
        url="https://vowels.example/all/vowels.txt", path="vowels/all.txt", **_pin(content)
    )


def left_in(folder: Path) -> list[str]:
    """What a build left behind: its files, and folders of its own that it did not finish."""
    return [path.name for path in folder.rglob("*") if path.is_file() or "incomplete" in path.name]
