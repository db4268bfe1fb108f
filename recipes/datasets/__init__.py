"""Dataset builders of the recipes. Importing this package registers them with TFDS.

```python
import tensorflow_datasets as tfds
import kerasrnn.recipes.datasets

train, test = tfds.load("japanese_vowels", split=["train", "test"], as_supervised=True)
```
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.datasets import (
    cmu_pronouncing,
    ideographs,
    japanese_vowels,
    jsb_chorales,
    karpathy_shakespeare,
    moses,
    movie_snippets,
    multi30k,
    music21_chorales,
    peoples_daily,
    tatoeba,
    zalando_fashion,
)

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "cmu_pronouncing",
    "ideographs",
    "japanese_vowels",
    "jsb_chorales",
    "karpathy_shakespeare",
    "load",
    "moses",
    "movie_snippets",
    "multi30k",
    "music21_chorales",
    "peoples_daily",
    "tatoeba",
    "zalando_fashion",
]


def load(
    name: str, splits: Sequence[str], data_dir: str | None = None, as_supervised: bool = False
) -> tuple[dict[str, "tf.data.Dataset"], Any]:
    """Splits of a dataset by their names, downloaded and prepared if need be, and its `info`.

    Args:
        name: of a dataset here, or of TFDS's catalogue.
        splits: their names.
        data_dir: where TFDS keeps datasets; default: its own place.
        as_supervised: whether an example is a pair.
    """
    import tensorflow_datasets as tfds

    datasets, info = tfds.load(
        name,
        split=list(splits),
        data_dir=data_dir,
        as_supervised=as_supervised,
        with_info=True,
    )
    return dict(zip(splits, datasets, strict=True)), info
