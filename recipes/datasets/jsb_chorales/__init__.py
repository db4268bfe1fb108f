"""JSB chorales: Bach's four-part chorales as piano rolls, in the split used in the literature."""

from kerasrnn.recipes.datasets.jsb_chorales.jsb_chorales_dataset_builder import Builder

__all__ = ["Builder"]
