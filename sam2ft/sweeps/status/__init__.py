"""Status commands: table of all runs, watch, tail, why, cancel, and the progress display of a local sweep."""
