"""Speed and quality, side by side with peers, with the results kept."""
