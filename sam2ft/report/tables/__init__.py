"""Tables of many evaluations as one: collected, checked, recounted, and written incrementally."""
