"""Runs on this machine: a pool of child processes, and one point in this process."""
