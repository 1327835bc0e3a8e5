"""Maintainer's tools: training the nano, its quality, downloading official weights, real data for the demo, and the
tree of docs/design.md.
"""
