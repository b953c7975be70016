"""Typed headers of requests and answers, one module per concept."""
