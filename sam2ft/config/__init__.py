"""Configuration: loading and validation of experiment and dataset files (YAML) into frozen, typed values, with one
report of all problems of a file; also run ids and eval ids, which are hashes of such values. The values are used in the
other domains; site files of a cluster are in slurm/site.py.
"""
