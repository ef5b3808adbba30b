"""Observers that ship. Each is one file, and needs nothing of the others."""
