"""DICOM: reading series and their headers, relaxometry series, and writing DICOM segmentations."""
