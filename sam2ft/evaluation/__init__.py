"""Evaluation of a checkpoint or of masks made elsewhere (by another program): prompt protocols, prediction, and all
outputs of an evaluation. Metrics are in metrics/, cohort statistics in statistics/, tables of several runs in report/.
"""
