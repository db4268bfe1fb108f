"""People's Daily, January 1998: Chinese word segmentation and parts of speech."""

from kerasrnn.recipes.datasets.peoples_daily.peoples_daily_dataset_builder import Builder

__all__ = ["Builder"]
