"""Benchmarks, a folder per study with its results, and the preparation of a release."""
