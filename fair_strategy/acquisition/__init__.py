"""Which case next: entropies, groups' performance, weights and ranking; NumPy and SciPy only."""
