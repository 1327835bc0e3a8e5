"""Samples and batches: slices with their instances, prompts and augmentation, divided among ranks and workers; and
the boxes of a detector.
"""
