"""Configuration schema (pydantic models): every key of an experiment or dataset file, with its type, unit, default
and allowed values. No other place defines them. One file per section of the YAML.
"""
