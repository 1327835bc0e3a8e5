"""Phantoms: cohorts of knees and spines whose every biomarker is known, and the check of biomarkers on a grid."""
