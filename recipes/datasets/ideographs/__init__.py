"""Ideographs: images of Chinese characters with their ideographic descriptions."""

from kerasrnn.recipes.datasets.ideographs.ideographs_dataset_builder import Builder

__all__ = ["Builder"]
