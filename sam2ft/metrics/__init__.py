"""Metrics of one volume: pure functions of two masks and their geometry, the table of metrics by name, and the only
path from masks to rows. No torch. Statistics over subjects are in statistics/.
"""
