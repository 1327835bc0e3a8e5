"""Drawing of splits and folds: by shares, balanced over covariates, in groups that stay together. Every function is
pure; the result depends on names, values and seed, never on the order of files.
"""
