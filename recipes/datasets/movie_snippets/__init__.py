"""Snippets of film reviews with human ratings."""

from kerasrnn.recipes.datasets.movie_snippets.movie_snippets_dataset_builder import Builder

__all__ = ["Builder"]
