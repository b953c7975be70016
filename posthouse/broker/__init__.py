"""The broker's decisions, one service per concept."""
