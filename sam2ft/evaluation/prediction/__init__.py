"""Prediction of masks from prompts: encoder and decoder per slice, propagation through a volume, composition."""
