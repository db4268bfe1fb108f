"""MOSES, molecules as strings: builder, source and splits. README.md describes the dataset."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.sources import PackageArchive
from kerasrnn.wording import counted

SOURCE = PackageArchive(
    name="molsets",
    version="0.3.1",
    archive="molsets-0.3.1-py3-none-any.whl",
    sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
    size=51_584_291,
    origin="https://github.com/molecularsets/moses",
    licence="MIT",
)
MEMBER = "moses/dataset/data/{split}.csv.gz"
MOLECULES = {"train": 1_584_663, "test": 176_074, "test_scaffolds": 176_225}
HEADER = "SMILES"

# Each character is a symbol; `Cl` and `Br` are two symbols each.
_SMILES = re.compile(r"[#()\-1-6=BCFHNOS\[\]clnors]+")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Molecules as SMILES strings; the task is to generate new, similar ones."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The benchmark's own splits, each sorted by hash."}

    # TFDS would look for these files in the folder of `kerasrnn`, which has no recipes in an
    # editable install.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "smiles": tfds.features.Text(
                        doc="the SMILES string of a molecule, as in the source"
                    )
                }
            ),
            homepage=SOURCE.origin,
            license=SOURCE.licence,
            # Shuffling would take minutes; the order by hash is as good.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        path = SOURCE.fetch(dl_manager.download_dir)
        # Parse everything before yielding the first example, so that an error in the last line is
        # raised before anything is written.
        parsed = {}
        for split, count in MOLECULES.items():
            member = MEMBER.format(split=split)
            molecules = parse(SOURCE.read(path, member), source=member, count=count)
            # The source's order is not random; in this order, the first ones are a random sample.
            parsed[split] = sorted(molecules, key=_hash)
        return {split: self._generate_examples(lines) for split, lines in parsed.items()}

    def _generate_examples(self, molecules: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, smiles in enumerate(molecules):
            yield number, {"smiles": smiles}


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
        raise DatasetError(f"{source}: expected a gzip file; found another: {error}") from None
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _error(source, line, "ASCII text", f"byte {content[error.start]:#04x}") from None
    *lines, rest = text.split("\n")
    if rest:
        raise _error(source, len(lines) + 1, "a line end", "the end of the file")
    header, *molecules = lines or [""]
    if header != HEADER:
        raise _error(source, 1, f"the header {HEADER!r}", repr(header[:40]))
    for number, smiles in enumerate(molecules, start=2):
        if not _SMILES.fullmatch(smiles):
            raise _error(source, number, "a SMILES string", repr(smiles))
    if len(molecules) != count:
        raise _error(source, len(lines), counted(count, "molecule"), f"{len(molecules)}")
    return molecules


def _hash(smiles: str) -> bytes:
    return hashlib.sha256(smiles.encode()).digest()


def _error(source: str, line: int, expected: str, found: str) -> DatasetError:
    return DatasetError(f"{source}, line {line}: expected {expected}; found {found}")
