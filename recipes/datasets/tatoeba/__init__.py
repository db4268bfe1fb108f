"""Tatoeba: everyday English sentences in German, Spanish, French or Japanese."""

from kerasrnn.recipes.datasets.tatoeba.tatoeba_dataset_builder import Builder

__all__ = ["Builder"]
