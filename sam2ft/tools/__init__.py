"""Maintainer's tools: training and quality of the nano model, download of official weights, real data for the demo, and
generation of the module lists in docs/.
"""
