"""Samples and batches: slices with instances, prompts and augmentation, distributed over ranks and workers; detector
boxes.
"""
