"""Scan-rescan repeatability (RMS-CV in percent) of knee cartilage biomarkers from the literature.

Segmentation errors are compared with these values.
"""

import math

# Within-subject coefficients of variation of repeated scans in percent; of a published range the smallest value, which
# is the strictest. All values are of knee cartilage; other tissues have none.
#   thickness, volume: femur, repositioned DESS, Duryea et al., Osteoarthritis Cartilage 2007;15:487
#     (medial tibia 1.6 and 2.9, lateral tibia 2.4 and 5.5, patella 2.3 and 4.6)
#   T2, T1rho at 3 T: 4 to 5, so that a change of 14 is detectable; QIBA profile, Chalian et al., Radiology 2021;301:423
YARDSTICKS_PERCENT = {
    ("cartilagethickness", "ThCcAB"): 1.2,
    ("cartilagethickness", "ThCtAB"): 1.2,
    ("tissuevolume", "volume"): 2.0,
    ("t2", "mean"): 4.0,
    ("t1rho", "mean"): 4.0,
}


def yardstick_percent(tissue: str, biomarker: str, definition: str) -> float:
    """Scan-rescan coefficient of variation in percent; NaN if unknown or the label name lacks "cartilage"."""
    is_cartilage = biomarker == "cartilagethickness" or "cartilage" in tissue.lower()
    return YARDSTICKS_PERCENT.get((biomarker, definition), math.nan) if is_cartilage else math.nan
