"""Multi30k: descriptions of photographs in English, German and French."""

from kerasrnn.recipes.datasets.multi30k.multi30k_dataset_builder import Builder

__all__ = ["Builder"]
