"""Which affine of a NIfTI file is right: sform, qform and pixdim say the same thing, and are compared always."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.data.formats.description import in_mm

# Two fields contradict each other beyond these; headers round to float32.
SPACING_TOLERANCE = 1e-3
COSINE_TOLERANCE = 1e-3
# The header holds three numbers of a quaternion in float32; the first is the root of 1 minus their squares. Near a half
# turn (an axial image in LPS) it is 0, and this rounding of its square turns an axis by up to 1e-3.
QUATERNION_ROUNDING = 3e-7
# Of the smallest voxel edge; the same as for a mask beside its image.
ORIGIN_TOLERANCE_VOXELS = 0.1
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Code of xyzt_units (its lowest three bits) -> mm: unknown, metre, millimetre, micrometre (nifti1.h)."""

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AffineFields:
    """The fields of a NIfTI header that place its voxels, in millimetres."""

    sform: Affine | None
    """None: sform_code is 0."""
    qform: Affine | None
    """None: qform_code is 0, or the quaternion is none of a rotation."""
    pixdim: npt.NDArray[np.float64]
    """Voxel edges as in the file; 0, negative or NaN where the header gives none."""
    base: Affine
    """Voxel edges of pixdim along unknown directions, for a header without both codes."""
    qform_code: int = 0


def shear_of(affine: Affine) -> float:
    """The largest cosine between two axes; 0 when they are at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(directions.T @ directions - np.eye(3)).max())


def believed_affine(fields: AffineFields, believe: str | None) -> tuple[Affine, tuple[str, ...]]:
    """(affine in RAS mm, notes). Without a contradiction: sform, else qform, else pixdim.

    Args:
        believe: sform, qform or pixdim (voxel edges alone) where fields contradict each other; other values do not
            concern NIfTI.

    Raises:
        DataError: two fields contradict each other and `believe` does not decide it; the message names both.
    """
    found = fields.sform if fields.sform is not None else fields.qform
    if found is None and fields.qform_code:
        raise DataError("its qform has a quaternion that is no rotation, and it has no sform; write a valid qform")
    fields = _without_absent_edges(fields)
    if found is None:
        _refuse_unknown_edges("sform_code and qform_code are both 0", fields.pixdim)
        note = (
            "sform_code and qform_code are both 0: the voxel sizes are those of pixdim, but position and orientation "
            "are unknown, so that heights of discs are not measured"
        )
        return fields.base, (note,)
    if fields.sform is None:
        _refuse_unknown_edges("sform_code is 0", fields.pixdim)
    problem = _contradiction(fields)
    if problem is None:
        return found, ()
    if believe not in ("sform", "qform", "pixdim"):
        raise DataError(f"{problem}; say which is right: {_choices(fields)}")
    chosen = {"sform": fields.sform, "qform": fields.qform, "pixdim": _with_edges(fields, found)}[believe]
    if chosen is None:
        why = "and believe: pixdim cannot decide this" if believe == "pixdim" else f"and it has no valid {believe}"
        raise DataError(f"{problem}, {why}; say which is right: {_choices(fields)}")
    return chosen, (f"{problem}; {believe} is believed",)


def _without_absent_edges(fields: AffineFields) -> AffineFields:
    """The fields with 0 for the edges that pixdim does not give; its qform has the edges of the sform there."""
    given = np.isfinite(fields.pixdim) & (fields.pixdim > 0)
    pixdim, qform = np.where(given, fields.pixdim, 0), fields.qform
    if qform is not None and fields.sform is not None:
        qform = qform.copy()
        lengths, edges = (np.linalg.norm(one[:3, :3], axis=0) for one in (qform, fields.sform))
        qform[:3, :3] *= np.where(given | (lengths == 0), 1, edges / np.where(lengths == 0, 1, lengths))
    return replace(fields, pixdim=pixdim, qform=qform)


def _refuse_unknown_edges(which: str, pixdim_mm: Affine) -> None:
    if pixdim_mm.min() == 0:
        edges = ", ".join(f"{edge:.6g}" if edge else "none" for edge in pixdim_mm)
        raise DataError(
            f"{which}, and pixdim gives the voxel edges {edges} mm (0, negative and NaN are none), so that its voxel "
            "size is unknown; allowed: edges above 0; write edges and directions, e.g. in Python with SimpleITK: "
            "image.SetSpacing(...), image.SetDirection(...)"
        )


def _choices(fields: AffineFields) -> str:
    names = [name for name, value in (("sform", fields.sform), ("qform", fields.qform)) if value is not None]
    names += ["pixdim"] if "qform" not in names else []
    return " or ".join(f"believe: {name}" for name in names) + " in the dataset file, or eval --believe"


def _contradiction(fields: AffineFields) -> str | None:
    """What sform, qform and pixdim say differently, with numbers; None: they agree within the tolerances."""
    sform, qform = fields.sform, fields.qform
    if sform is None:
        return None  # the voxel edges of the qform are those of pixdim
    if qform is None:
        if fields.qform_code:
            return "its qform has a quaternion that is no rotation, its sform is another"
        return _different_spacing("sform", np.linalg.norm(sform[:3, :3], axis=0), "pixdim", fields.pixdim)
    return _different_affines(sform, qform)


def _different_affines(sform: Affine, qform: Affine) -> str | None:
    edges, others = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (sform, qform))
    if problem := _different_spacing("sform", edges, "qform (pixdim)", others):
        return problem
    if not (np.isfinite(sform).all() and edges.min() > 0):
        return None
    cosine = float(np.abs(sform[:3, :3] / edges - qform[:3, :3] / others).max())
    if cosine > COSINE_TOLERANCE + _rounded_turn(qform[:3, :3] / others):
        return f"sform and qform contradict each other: directions differ by up to {cosine:.3g} (cosines)"
    apart = float(np.abs(sform[:3, 3] - qform[:3, 3]).max())
    if apart > ORIGIN_TOLERANCE_VOXELS * edges.min():
        return f"sform and qform contradict each other: origin {in_mm(sform[:3, 3])} against {in_mm(qform[:3, 3])}"
    return None


def _rounded_turn(directions: npt.NDArray[np.float64]) -> float:
    """How much the rounding of its quaternion may change a cosine of a rotation."""
    proper = directions * [1, 1, np.sign(np.linalg.det(directions))]
    square = max(0.0, (1 + float(np.trace(proper))) / 4)
    return 2 * float(np.sqrt(square + QUATERNION_ROUNDING) - np.sqrt(square))


def _different_spacing(
    name: str, edges: npt.NDArray[np.float64], other: str, others: npt.NDArray[np.float64]
) -> str | None:
    given = others != 0
    if np.allclose(edges[given], others[given], rtol=SPACING_TOLERANCE, atol=0):
        return None
    return f"{name} and {other} contradict each other: spacing {in_mm(edges)} against {in_mm(others)}"


def _with_edges(fields: AffineFields, affine: Affine) -> Affine | None:
    """`affine` with the voxel edges of pixdim; None when this is no affine, or the directions are contradicted too."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and edges.min() > 0 and fields.pixdim.min() > 0):
        return None
    scaled = affine.copy()
    scaled[:3, :3] *= fields.pixdim / edges
    if fields.sform is not None and (fields.qform is not None or fields.qform_code):
        same = AffineFields(scaled, fields.qform, fields.pixdim, fields.base, fields.qform_code)
        return None if _contradiction(same) else scaled
    return scaled
