"""The reader's side of a version: its entries, read shard by shard and verified."""
