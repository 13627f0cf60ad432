"""Architectures and families, usable in any role: one a file."""
