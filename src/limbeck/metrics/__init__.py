"""How answers are counted: one family a file; gather first, then answer."""
