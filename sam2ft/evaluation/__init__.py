"""Evaluation of a checkpoint or of masks made elsewhere: prompt protocols, prediction, and everything an evaluation
writes. Metrics are in metrics/, cohort statistics in statistics/, tables of several runs in report/.
"""
