"""Stores: where objects are listed, one adapter a kind of server, and what wraps them."""
