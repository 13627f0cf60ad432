"""Row sources: one source or file format a file."""
