"""Volumes and grids: reading NIfTI, NRRD and DICOM, bringing volumes to another grid, fitting relaxation maps."""
