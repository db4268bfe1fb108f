"""Tiny Shakespeare: a megabyte of plays, cut where nanoGPT cuts it."""

from kerasrnn.recipes.datasets.karpathy_shakespeare.karpathy_shakespeare_dataset_builder import (
    Builder,
)

__all__ = ["Builder"]
