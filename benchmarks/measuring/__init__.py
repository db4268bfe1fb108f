"""Code shared by the speed benchmarks: processes that take turns, their numbers, and reports."""
