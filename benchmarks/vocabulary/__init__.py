"""Softmaxes over large vocabularies."""
