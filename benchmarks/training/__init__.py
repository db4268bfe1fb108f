"""Benchmarks of training: time spent waiting for data, memory, and half precision."""
