"""Scoring masks made elsewhere (`eval --predictions`, `--reference`): without a model and without torch."""
