"""The shared blocks, each written once. Values behind an item's own length are unspecified: see padding.py."""
