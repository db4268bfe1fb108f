"""The MOSES benchmark: drug-like molecules as SMILES strings."""

from kerasrnn.recipes.datasets.moses.moses_dataset_builder import Builder

__all__ = ["Builder"]
