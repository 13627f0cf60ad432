"""What a student can be asked to match: one loss a file."""
