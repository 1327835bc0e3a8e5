"""Volumes and grids: reading NIfTI, NRRD and DICOM, resampling to another grid, fitting T2 and T1rho maps."""
