"""Japanese vowels: which of nine speakers says /ae/?"""

from kerasrnn.recipes.datasets.japanese_vowels.japanese_vowels_dataset_builder import Builder

__all__ = ["Builder"]
