"""The same three programs, in Holdfast and in its peers: one script each, run as a process of its own by `benchmarks.beside_peers`."""
