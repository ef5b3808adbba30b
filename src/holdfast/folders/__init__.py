"""Places that keep bytes: what is asked of them (`protocol`), and who keeps them (`local` over a `disk` or in `memory`).

Nothing is imported here, so that `import holdfast` does not load what only a store needs.
"""
