"""DICOM: reading series and their headers, reading relaxometry series, writing DICOM segmentations (SEG)."""
