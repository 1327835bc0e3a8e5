"""Observers of a training: checkpoints, history, status, pictures, trackers, and start and end messages."""
