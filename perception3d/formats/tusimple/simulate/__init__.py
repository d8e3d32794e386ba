"""The built-in world in the format of TuSimple."""
