"""Prediction of masks from the prompts of a protocol: encoder and decoder per slice, composition, scoring."""
