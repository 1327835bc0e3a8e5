"""Biomarkers with a physical unit: cartilage thickness, disc height, tissue volume, T2, T1rho, and shared geometry."""
