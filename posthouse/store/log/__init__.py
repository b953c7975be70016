"""The log seam and its engines."""
