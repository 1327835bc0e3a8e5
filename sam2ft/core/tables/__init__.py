"""Schema of the CSV tables: keys, columns, units, NaN rules and text form; docs/tables.md lists them. The
numbers are computed in metrics/ and statistics/; report/tables combines the tables of many runs.
"""
