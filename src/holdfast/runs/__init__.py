"""A run: opened under its name, owned, driven to its end, stopped. And the ephemeral run, which keeps nothing."""
