"""Output files of an evaluation: tables, wide tables, QC pictures, DICOM segmentations, thickness maps."""
