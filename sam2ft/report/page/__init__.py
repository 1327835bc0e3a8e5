"""The HTML page: what it says, gathered from the runs, and how it is laid out (templates/)."""
