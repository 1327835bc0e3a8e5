"""Maintainer's tools: training and quality of the nano model, download of official weights, real data for the demo,
generation of the module lists in docs/, audit of dependencies and check of their licences.
"""
