"""Japanese vowels: utterances of /ae/ by nine speakers."""

from kerasrnn.recipes.datasets.japanese_vowels.japanese_vowels_dataset_builder import Builder

__all__ = ["Builder"]
