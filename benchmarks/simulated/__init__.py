"""Benchmarks on a virtual clock: they take no time and ask no server."""
