"""One module per vendor: what ``lookalike.interfaces`` asks for, for real."""
