"""The plan of a sweep and its cost: what is missing, what differs from the earlier plan, time and disk estimates."""
