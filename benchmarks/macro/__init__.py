"""Whole programs on whole buckets: one module a benchmark, each with `measure(sitting, sizes)`."""
