"""Bach's chorales as piano rolls, made from the scores in music21's corpus."""

from kerasrnn.recipes.datasets.music21_chorales.music21_chorales_dataset_builder import Builder

__all__ = ["Builder"]
