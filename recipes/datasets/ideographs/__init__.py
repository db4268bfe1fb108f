"""Ideographs: what is a Chinese character made of?"""

from kerasrnn.recipes.datasets.ideographs.ideographs_dataset_builder import Builder

__all__ = ["Builder"]
