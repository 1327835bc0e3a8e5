"""Configuration: an experiment file or a dataset file becomes frozen, typed values, or one report of every problem
in it. Also the identity of runs and evaluations, which is a hash of such values. What the values do lies in the
domains that use them; site files of a cluster are in slurm/site.py.
"""
