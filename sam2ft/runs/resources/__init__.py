"""Requested resources of a point (GPUs, cores, memory, hours), and the key of runs with comparable timings."""
