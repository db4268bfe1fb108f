"""Reports on runs: cards, pictures, comparisons, and verified exports."""
