"""Cartilage thickness by pyMSKT, for bench_thickness.py: `python mskt_thickness.py VOLUME.npz` in its own environment.

Prints one JSON object: seconds (wall and CPU) from label map to thickness at every vertex, their mean over the covered
area, and the vertices. With `--bare` cartilage meshes are not repaired (fix_method=None), which is not the default.
"""

import json
import sys
import time

import numpy as np
import pymskt
import SimpleITK
from pymskt.mesh import BoneMesh


def main() -> None:
    volume, bare = np.load(sys.argv[1]), "--bare" in sys.argv
    image = SimpleITK.GetImageFromArray(volume["labels"].astype(np.uint8))
    image.SetSpacing([float(step) for step in volume["spacing"][::-1]])
    wall, cpu = time.perf_counter(), time.process_time()
    bone = BoneMesh(seg_image=image, label_idx=2, list_cartilage_labels=[1])
    bone.create_mesh()
    if bare:
        bone.create_cartilage_meshes(fix_method=None)
    bone.calc_cartilage_thickness()
    thickness = np.asarray(bone["thickness (mm)"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    areas = np.zeros(len(thickness))
    corners = np.asarray(bone.faces).reshape(-1, 4)[:, 1:]
    points = np.asarray(bone.points)
    sides = points[corners[:, 1:]] - points[corners[:, :1]]
    np.add.at(areas, corners.ravel(), np.repeat(np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 6, 3))
    covered = thickness > 0
    found = {
        "version": pymskt.__version__,
        "wall_s": wall,
        "cpu_s": cpu,
        "mean_mm": float(np.average(thickness[covered], weights=areas[covered])),
        "area_mm2": float(areas[covered].sum()),
        "vertices": len(thickness),
    }
    print(json.dumps(found))


main()
