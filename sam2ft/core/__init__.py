"""Code shared by all domains: keys, geometry, labels, prompts, table schemas, exit codes, atomic file writes.
Uses only the standard library, numpy and scipy.ndimage; does not depend on models, metrics or jobs.
"""
