"""Handing out: NIfTI files, DICOM segmentations (SEG) of predictions, and a store as nnU-Net v2 raw dataset."""
