"""How a job over batches is carried out: on one device, or on a Ray cluster."""
