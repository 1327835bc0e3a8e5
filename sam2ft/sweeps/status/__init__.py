"""The status command: table, watch, tail, why, cancel, and the progress of a local sweep."""
