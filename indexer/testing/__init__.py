"""Shipped for tests, ours and other people's: contract suites, seeded buckets, a synthetic S3."""
