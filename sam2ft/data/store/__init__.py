"""The prepared store on disk: layout, index, digests, metadata files, train/val/test splits and intensity windows."""
