"""Volumes and grids: reading volumes, resampling to another grid, fitting T2 and T1rho maps."""
