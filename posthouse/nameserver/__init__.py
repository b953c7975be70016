"""Who serves which topic."""
