"""Forwarding modules for jobs that sam2ft 0.1.0 queued. Removed with the next release; add nothing new."""
