"""Result tables of many evaluations combined: collected, checked, computed again and written incrementally."""
