"""One attempt at a run: claim (exclusive write access), status and heartbeat, restarts, log, and ending."""
