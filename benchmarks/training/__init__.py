"""What training waits for, how much memory it needs, and what half precision changes."""
