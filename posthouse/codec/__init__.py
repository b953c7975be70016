"""Bytes to values and back. Sans-IO: nothing here waits, connects or reads a clock."""
