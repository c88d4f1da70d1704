"""A benchmark on a Ray cluster."""
