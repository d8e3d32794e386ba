"""Kernels on points, voxels and rows: numba on the CPU, mmcv or torch on a GPU, behind one function each."""
