"""Tests of posthouse.endpoint."""
