"""Comparison of two masks: overlap (Dice), surface distances (voxel boundaries, surfels), detection of instances."""
