"""Messages and state on disk: one log, many folds."""
