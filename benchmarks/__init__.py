"""What the indexer takes, measured beside its neighbours: see README.md."""
