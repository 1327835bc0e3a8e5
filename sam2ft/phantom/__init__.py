"""Digital phantoms: knee and lumbar spine cohorts with known biomarkers, and a bias check of biomarkers on a grid."""
