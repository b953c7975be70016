"""A live connection: codec and transport together."""
