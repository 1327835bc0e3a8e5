"""The integrity report of a prepared store (report.html): what each volume holds, and what should be looked at."""
