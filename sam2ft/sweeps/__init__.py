"""A sweep as a user sees it: plan, submit or run here, state of every run, status commands, aggregation."""
