"""Benchmarks of speed and quality in comparison with other libraries, with their results."""
