"""Run directory: paths, plan file, identity, history, provenance, stores and trackers. No model and no scheduler."""
