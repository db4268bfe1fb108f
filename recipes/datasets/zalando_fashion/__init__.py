"""Fashion-MNIST out of a Debian package: which of ten garments is in the picture?"""

from kerasrnn.recipes.datasets.zalando_fashion.zalando_fashion_dataset_builder import Builder

__all__ = ["Builder"]
