"""What the studies of speed share: processes that take turns, their numbers, and reports."""
