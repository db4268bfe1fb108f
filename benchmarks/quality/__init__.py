"""Preparation of a release: cards of the recipes, and their trained models."""
