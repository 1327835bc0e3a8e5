"""Data augmentation with MONAI transforms, applied jointly to a slice and its instance masks."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.datamodule import Transform
from sam2ft.core.errors import ConfigError
from sam2ft.core.prompts import Mask

# Spatial transforms change image and masks; intensity transforms change only the image.
SPATIAL = "monai.transforms.spatial.dictionary"
INTENSITY = "monai.transforms.intensity.dictionary"
# torch's "nearest" rounds the source index down, which would shift masks by up to one pixel.
MASK_MODES = {"RandZoom": "nearest-exact"}


class Augmentation:
    """A chain of MONAI transforms; the same seed gives the same result."""

    def __init__(self, specs: Sequence[Transform]):
        from monai.transforms import Compose

        self._chain = Compose([_transform(spec.type, spec.arguments) for spec in specs])

    def __call__(
        self, image_yx: npt.NDArray[np.float32], masks_nyx: Mask, seed: int
    ) -> tuple[npt.NDArray[np.float32], Mask]:
        """Image (bilinear, clipped to [0, 1]) and masks (nearest) on one grid; their size may change.

        The masks are instances of one slice and must not overlap.
        """
        self._chain.set_random_state(seed=seed)
        # Nearest-neighbour sampling of one numbered map equals that of every mask, at the cost of one mask.
        numbers_n11 = np.arange(1, len(masks_nyx) + 1, dtype=np.float32)[:, None, None]
        numbered = (masks_nyx * numbers_n11).sum(axis=0, dtype=np.float32)
        # Some transforms modify their input in place (RandCoarseDropout); the copy protects the image of the caller.
        result = self._chain({"image": image_yx[None].copy(), "masks": numbered[None]})
        image = np.clip(np.asarray(result["image"], dtype=np.float32)[0], 0, 1)
        return image, np.asarray(result["masks"]) == numbers_n11


def augmentation_of(specs: Sequence[Transform]) -> Augmentation | None:
    """The chain of `specs`, or None if it is empty (MONAI, whose import takes four seconds, is then not imported)."""
    return Augmentation(specs) if specs else None


def _transform(name: str, arguments: Mapping[str, Any]) -> Any:
    """The MONAI dictionary transform `name`; raise ConfigError for a value that MONAI refuses."""
    spatial: Any = getattr(importlib.import_module(SPATIAL), f"{name}d", None)
    chosen: Any = spatial or getattr(importlib.import_module(INTENSITY), f"{name}d")
    settings = dict(arguments)
    if spatial and "mode" in inspect.signature(chosen).parameters:
        settings["mode"] = (settings.get("mode", "bilinear"), MASK_MODES.get(name, "nearest"))
    if name == "RandZoom" and "align_corners" in settings:
        settings["align_corners"] = (settings["align_corners"], None)  # torch allows it only for interpolating modes
    try:
        return chosen(keys=("image", "masks") if spatial else ("image",), **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"datamodule.augmentation: {name}: {error}") from None
