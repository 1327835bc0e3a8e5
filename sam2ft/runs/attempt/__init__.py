"""One attempt at a run: claim (exclusive write access), status file (state, failure class, heartbeat), restarts, log,
and how it ends.
"""
