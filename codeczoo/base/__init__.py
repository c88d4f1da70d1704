"""What every codec has: types, devices, files, weights, the registry, streaming state."""
