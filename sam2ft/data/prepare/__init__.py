"""Preparation of a dataset: finding the files of each subject, mapping mask values to label ids, writing the store."""
