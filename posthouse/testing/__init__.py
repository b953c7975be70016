"""A whole cluster inside a test."""
