"""Fashion-MNIST from a Debian package: images of ten kinds of garments."""

from kerasrnn.recipes.datasets.zalando_fashion.zalando_fashion_dataset_builder import Builder

__all__ = ["Builder"]
