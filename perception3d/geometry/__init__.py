"""Pure functions on arrays and tensors: boxes, cameras, grids, lookup tables. No registry, no config."""
