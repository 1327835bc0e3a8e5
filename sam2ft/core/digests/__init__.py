"""Digests of files: seals that JSON and YAML files carry themselves, and files that are read back verified."""
