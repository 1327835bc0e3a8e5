"""Biomarkers with a physical unit: thickness, height, volume, T2 and T1rho, and what they are measured with."""
