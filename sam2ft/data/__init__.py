"""Data: reading image files, the prepared store on disk, and the samples and batches of the data loaders."""
