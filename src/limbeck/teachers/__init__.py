"""Knowledge that is brought: one source a file."""
