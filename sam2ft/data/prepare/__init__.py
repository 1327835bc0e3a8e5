"""Preparation of a dataset: names of subjects, mapping mask values to label ids, writing the store."""
