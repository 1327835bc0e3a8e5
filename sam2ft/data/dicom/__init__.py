"""DICOM: reading series and their headers, relaxometry series, and segmentations (SEG)."""
