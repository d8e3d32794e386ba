"""Official numbers, computed on the CPU."""
