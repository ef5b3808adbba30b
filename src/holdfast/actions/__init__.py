"""The near side: one action, from being asked for to its outcome."""
