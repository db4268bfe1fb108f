"""The CMU Pronouncing Dictionary: English words with their pronunciations."""

from kerasrnn.recipes.datasets.cmu_pronouncing.cmu_pronouncing_dataset_builder import Builder

__all__ = ["Builder"]
