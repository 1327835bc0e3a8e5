"""Thickness maps: cartilage thickness at every vertex of the bone surface, as arrays and as coloured PLY mesh."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from sam2ft.metrics.biomarkers.rays import Numbers
from sam2ft.metrics.biomarkers.thickness import Crossing, bone_rays
from sam2ft.metrics.measurement import MaskPair

# Viridis (matplotlib) at 0, 1/4, 1/2, 3/4 and 1 of the scale; bare bone is grey.
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64)
_BARE = (200, 200, 200)
SCALE_MM = 5.0
"""Thickness in mm at the bright end of the colour scale; the dark end is 0."""


@dataclass(frozen=True)
class ThicknessMap:
    """Bone surface near its cartilage, with the thickness at its n vertices as measured by `thickness.bone_rays`."""

    vertices_ras_mm_n3: Numbers
    faces_m3: npt.NDArray[np.int64]
    """Triangles as vertex indices."""
    areas_mm2_n: Numbers
    """Bone area of each vertex: the weight in means."""
    reference_mm_n: Numbers
    """0 where the bone is bare, NaN where the cartilage leaves the image."""
    prediction_mm_n: Numbers

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Field name -> values, as stored in the .npz file."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def ply(self) -> bytes:
        """Content of a PLY file (binary, RAS mm) with reference_mm, prediction_mm and difference_mm per vertex.

        Vertices are coloured by the prediction: viridis from 0 to 5 mm, grey where the prediction leaves bone bare.
        """
        colours, names = ("red", "green", "blue"), ("x", "y", "z", "reference_mm", "prediction_mm", "difference_mm")
        vertices = np.zeros(
            len(self.areas_mm2_n),
            dtype=[*((name, "<f4") for name in names), *((name, "u1") for name in colours)],
        )
        columns = (
            *self.vertices_ras_mm_n3.T,
            self.reference_mm_n,
            self.prediction_mm_n,
            self.prediction_mm_n - self.reference_mm_n,
            *_colours(self.prediction_mm_n).T,
        )
        for name, values in zip((*names, *colours), columns, strict=True):
            vertices[name] = values
        faces = np.zeros(len(self.faces_m3), dtype=[("corners", "u1"), ("vertices", "<i4", 3)])
        faces["corners"], faces["vertices"] = 3, self.faces_m3
        header = [
            "ply",
            "format binary_little_endian 1.0",
            f"element vertex {len(vertices)}",
            *(f"property float {name}" for name in names),
            *(f"property uchar {name}" for name in colours),
            f"element face {len(faces)}",
            "property list uchar int vertex_indices",
            "end_header\n",
        ]
        return "\n".join(header).encode("ascii") + vertices.tobytes() + faces.tobytes()


def thickness_map(pair: MaskPair) -> ThicknessMap | None:
    """Thickness map of a plate in both masks; None if there is no plate, or no bone of the reference near it."""
    if pair.bone_zyx is None or pair.status == "absent" or not len((rays := bone_rays(pair)).surface):
        return None
    surface = rays.surface
    indices_zyx = surface.vertices_n3 / np.asarray(pair.geometry.spacing_zyx_mm)
    indices = np.column_stack([indices_zyx[:, ::-1], np.ones(len(surface))])
    return ThicknessMap(
        (indices @ pair.geometry.affine.T)[:, :3],
        surface.faces_m3,
        surface.areas_n,
        _thickness(rays.reference),
        _thickness(rays.prediction),
    )


def _thickness(of: Crossing) -> Numbers:
    return np.where(of.covered_n, of.lengths.lengths_n, 0.0)


def _colours(thickness_mm: Numbers) -> npt.NDArray[np.uint8]:
    share = np.clip(np.nan_to_num(thickness_mm) / SCALE_MM, 0, 1)
    places = np.linspace(0, 1, len(_COLOURS))
    mixed = np.stack([np.interp(share, places, channel) for channel in _COLOURS.T], axis=1)
    mixed[~(thickness_mm > 0)] = _BARE
    return np.asarray(np.rint(mixed), dtype=np.uint8)
