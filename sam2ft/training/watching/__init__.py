"""Observers of a training: checkpoints, history, status, pictures, trackers, and messages for a person."""
