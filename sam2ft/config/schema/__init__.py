"""The settings: every key of an experiment or dataset file, its type, unit, default and allowed values, declared
here and nowhere else. One file per section of the YAML.
"""
