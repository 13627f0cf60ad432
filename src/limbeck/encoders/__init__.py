"""Columns to tensors: one encoding a file; no torch here."""
