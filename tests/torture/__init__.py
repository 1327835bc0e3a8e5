"""Faults and kills aimed at every write of the commands."""
