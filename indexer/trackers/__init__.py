"""Trackers: where shards and versions are told, beside the embedded catalog."""
