"""Imaging modality of a DICOM series, from the defined terms of the attribute Modality. No pydicom."""

from collections.abc import Iterable, Mapping

MODALITIES: Mapping[str, str] = {
    "MR": "MRI",
    "CT": "CT",
    "PT": "PET",
    "NM": "nuclear medicine",
    "US": "ultrasound",
    "IVUS": "intravascular ultrasound",
    "XA": "X-ray angiography",
    "RF": "fluoroscopy",
    "DX": "digital radiography",
    "CR": "computed radiography",
    "MG": "mammography",
    "OPT": "optical coherence tomography",
    "SM": "slide microscopy",
}
"""Defined term of Modality (PS3.3 C.7.3.1.1.1) -> its words. Other text is not kept: it may say anything."""


def modality_fact(codes: Iterable[str]) -> dict[str, str]:
    """`{"modality": code}` where the headers of a series have the same defined term, else nothing."""
    found = set(codes)
    code = found.pop() if len(found) == 1 else ""
    return {"modality": code} if code in MODALITIES else {}
