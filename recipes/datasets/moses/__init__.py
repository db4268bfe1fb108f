"""Molecules that a medicine might be, as SMILES strings: the benchmark MOSES."""

from kerasrnn.recipes.datasets.moses.moses_dataset_builder import Builder

__all__ = ["Builder"]
