"""Business questions: one a file, ending in TASK."""
