"""How much biomarkers vary when the same knee is measured again: what an error of segmentation is held against."""

import math

# Within-subject coefficients of variation of repeated scans, percent; of a published range the smallest, which is the
# hardest to meet. All of knee cartilage: other tissues have none.
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
    """The noise of repeated measurement; NaN where none is known, or the label's name does not say cartilage."""
    is_cartilage = biomarker == "cartilagethickness" or "cartilage" in tissue.lower()
    return YARDSTICKS_PERCENT.get((biomarker, definition), math.nan) if is_cartilage else math.nan
