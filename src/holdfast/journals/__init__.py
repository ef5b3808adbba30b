"""The append-only record of a run, and the fence between its owners (guarantees.md, "The journal as a fence")."""
