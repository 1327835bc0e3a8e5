"""Checkpoint files: best.pt, which stock SAM 2 loads, and the file from which a training resumes."""
