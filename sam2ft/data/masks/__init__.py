"""Masks: reading every kind of mask file, and composing one label map from several files, layers or outlines."""
