"""Segmentation metrics (Dice, Hausdorff, biomarkers) of one volume: pure functions of two masks and their geometry, the
registry of metrics by name, and the only path from masks to table rows. Does not import torch. Statistics over subjects
are in statistics/.
"""
