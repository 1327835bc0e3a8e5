"""Submission: job arrays, their order and records, finishing what a killed launcher began, throttling."""
