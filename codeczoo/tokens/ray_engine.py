"""A tokenisation on a Ray cluster."""
