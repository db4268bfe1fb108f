"""Snippets of film reviews, as people rated them: for or against?"""

from kerasrnn.recipes.datasets.movie_snippets.movie_snippets_dataset_builder import Builder

__all__ = ["Builder"]
