"""Holdfast's promises in numbers, each beside its limit, measured in one run (docs: `python -m benchmarks --help`)."""
