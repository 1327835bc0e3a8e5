"""Looking through a folder of any kind: what it holds, which mask belongs to which image, and a dataset file for it."""
