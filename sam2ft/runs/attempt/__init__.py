"""One attempt at a run: who holds the claim, status and heartbeat, restarts, log, and how it ends."""
