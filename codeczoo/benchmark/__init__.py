"""Encode, decode and measure a data set; see docs/benchmark.md."""
