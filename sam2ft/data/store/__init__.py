"""The prepared store on disk: layout, index, digests, metadata files, splits and intensity windows."""
