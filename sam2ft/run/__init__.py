"""Forwarding modules for jobs that sam2ft 0.1.0 queued; removed with the next release. Nothing new goes here."""
