"""The pronouncing dictionary of Carnegie Mellon University: how is an English word said?"""

from kerasrnn.recipes.datasets.cmu_pronouncing.cmu_pronouncing_dataset_builder import Builder

__all__ = ["Builder"]
