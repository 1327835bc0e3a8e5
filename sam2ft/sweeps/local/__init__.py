"""Runs on this machine: a pool of child processes, and the training of one point in this process."""
