"""The tables on disk: columns, units, NaN rules, text form, and docs/data.md which is generated from them. What the
numbers mean is in metrics/, how tables of many runs are put together in report/tables.
"""
