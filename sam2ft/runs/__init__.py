"""A run on disk: every path in it, its plan file, identity, history, provenance, stores and trackers. No model and
no scheduler.
"""
