"""Checkpoint files: best.pt, which stock SAM 2 loads, and resume files, from which training continues."""
