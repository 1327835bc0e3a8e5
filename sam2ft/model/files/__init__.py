"""Files with weights: checkpoints of any program are read without running code of theirs, and verified by digests."""
