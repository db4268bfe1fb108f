"""Small archives for the tests, pinned in the way that the real ones are."""

import hashlib
import io
import zipfile
from collections.abc import Mapping

from kerasrnn.recipes.datasets.sources import PackageArchive


def wheel(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip file with these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def pinned(content: bytes) -> PackageArchive:
    """The pin of a package whose wheel has this content."""
    return PackageArchive(
        name="vowels",
        version="1.0",
        archive="vowels-1.0-py3-none-any.whl",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        origin="the tests",
        licence="none",
    )
