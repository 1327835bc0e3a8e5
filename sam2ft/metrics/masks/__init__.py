"""Comparison of two masks: overlap, distances between surfaces (voxel boundaries and surfels), detected instances."""
