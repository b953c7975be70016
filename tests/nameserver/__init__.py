"""Tests of posthouse.nameserver."""
