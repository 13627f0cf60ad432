"""Real data and weights that ship inside packages: one pack a file."""
