"""What an evaluation leaves on disk: tables, wide tables, QC pictures, DICOM segmentations, thickness maps."""
