"""MOSES, molecules as strings: builder, source and splits. README.md describes the dataset."""

import gzip
import hashlib
import re
import zlib
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.lines import line_error, split_lines
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive
from kerasrnn.wording import counted

MEMBER = "moses/dataset/data/{split}.csv.gz"
MOLECULES = {"train": 1_584_663, "test": 176_074, "test_scaffolds": 176_225}
HEADER = "SMILES"

# Each character is a symbol; `Cl` and `Br` are two symbols each.
_SMILES = re.compile(r"[#()\-1-6=BCFHNOS\[\]clnors]+")


class Builder(PinnedBuilder):
    """Molecules as SMILES strings; the task is to generate new, similar ones."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The benchmark's own splits, each sorted by hash."}
    source = PackageArchive(
        name="molsets",
        version="0.3.1",
        archive="molsets-0.3.1-py3-none-any.whl",
        sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
        size=51_584_291,
        origin="https://github.com/molecularsets/moses",
        licence="MIT",
    )
    # Shuffling would take minutes; the order by hash is as good.
    shuffles = False

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {"smiles": tfds.features.Text(doc="the SMILES string of a molecule, as in the source")}
        )

    def read_splits(self, folder: Path) -> dict[str, list[str]]:
        path = self.source.fetch(folder)
        splits = {}
        for split, count in MOLECULES.items():
            member = MEMBER.format(split=split)
            molecules = parse(self.source.read(path, member), source=member, count=count)
            # The source's order is not random; in this order, the first ones are a random sample.
            splits[split] = sorted(molecules, key=_hash)
        return splits

    def example(self, item: str) -> dict[str, Any]:
        return {"smiles": item}


def parse(content: bytes, *, source: str, count: int) -> list[str]:
    """Parse a compressed file with a header and one SMILES string per line.

    Raises:
        DatasetError: the file is not a complete gzip file, not ASCII or ends within a line; its
            first line is not the header; a line has characters that do not occur in the benchmark;
            or the number of molecules is not `count`. The message names `source`, the line (counted
            from 1), the expected and the actual content.
    """
    try:
        content = gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(f"{source}: expected a gzip file; {error}") from None
    lines = split_lines(content, source=source, encoding="ASCII")
    header, *molecules = lines or [""]
    if header != HEADER:
        raise line_error(source, 1, f"the header {HEADER!r}", repr(header[:40]))
    for number, smiles in enumerate(molecules, start=2):
        if not _SMILES.fullmatch(smiles):
            raise line_error(source, number, "a SMILES string", repr(smiles))
    if len(molecules) != count:
        raise line_error(source, len(lines), counted(count, "molecule"), f"{len(molecules)}")
    return molecules


def _hash(smiles: str) -> bytes:
    return hashlib.sha256(smiles.encode()).digest()
