"""Observers that ship. Each is one file, and needs nothing of the others; the terminal's has its picture beside it."""
