"""The plan of a sweep and its cost: missing runs, difference from the earlier plan, estimates of time and disk."""
