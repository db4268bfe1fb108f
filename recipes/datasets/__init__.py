"""Dataset builders of the recipes. Importing this package registers them with TFDS.

```python
import tensorflow_datasets as tfds
import kerasrnn.recipes.datasets

train, test = tfds.load("japanese_vowels", split=["train", "test"], as_supervised=True)
```
"""

from kerasrnn.recipes.datasets import japanese_vowels

__all__ = ["japanese_vowels"]
