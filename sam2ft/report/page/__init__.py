"""The HTML page of a report: its content, gathered from the runs, and its rendering (templates/)."""
