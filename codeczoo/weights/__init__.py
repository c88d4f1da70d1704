"""From a file of somebody else's to tensors: download, safe reading, conversion of names, and back into files."""
