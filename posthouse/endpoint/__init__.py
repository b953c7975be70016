"""Protocols onto services, thinly."""
