"""Statistics over subjects: bootstrap intervals, cohort tables, agreement, paired tests, rankings. Pure functions."""
