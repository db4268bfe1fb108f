"""What is made of runs: cards, pictures, comparisons, and exports with their verification."""
