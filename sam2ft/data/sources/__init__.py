"""Sources of a dataset: one row per volume (image, mask, maps, split, covariates), filled from patterns of paths, a
table, or the layout of another program.
"""
