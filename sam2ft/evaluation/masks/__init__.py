"""Scoring of masks made elsewhere, by another program (`eval --predictions`, `--reference`): no model and no torch."""
