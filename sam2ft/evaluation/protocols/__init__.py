"""Prompt protocols of an evaluation, one per file: what is prompted and how, and the protocol's name in tables. The
file of a protocol has the protocol's name; `config/schema/evaluation.py` has the table of names (`PROTOCOLS`).
"""
