"""What runs the indexer, and the servers it is tried on, on a real machine."""
