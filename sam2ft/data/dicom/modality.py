"""Facts of a DICOM series from defined terms of its headers: modality, and text in the pictures. No pydicom."""

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


def burned_in_fact(values: Iterable[str]) -> dict[str, str]:
    """`{"burned_in": "YES"}` where a header of a series says so, "NO" where all do (PS3.3 C.7.6.1.1.2), else nothing.

    Args:
        values: BurnedInAnnotation of each file; empty where it does not say.
    """
    found = {value.strip().upper() for value in values}
    if "YES" in found:
        return {"burned_in": "YES"}
    return {"burned_in": "NO"} if found == {"NO"} else {}
