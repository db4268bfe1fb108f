"""Recipes: models trained on real data, each with one command."""
