"""Datasets, the pipeline, results, the report."""
