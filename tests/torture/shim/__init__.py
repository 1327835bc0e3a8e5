"""Faults of a file system, made by a library that is loaded before libc."""
