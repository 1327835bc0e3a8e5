"""MONAI transforms by name, applied to a slice and its instance masks together."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import ConfigError
from sam2ft.core.prompts import Mask

# Spatial transforms move image and masks alike; intensity transforms touch the image alone.
SPATIAL = "monai.transforms.spatial.dictionary"
INTENSITY = "monai.transforms.intensity.dictionary"
# torch's "nearest" takes the pixel above and left of the right one, which would move masks by up to a pixel.
MASK_MODES = {"RandZoom": "nearest-exact"}


class TransformSpec(Protocol):
    """One entry of `datamodule.augmentation`."""

    @property
    def type(self) -> str: ...

    @property
    def arguments(self) -> Mapping[str, Any]: ...


class Augmentation:
    """A chain of MONAI transforms. Calling it twice with one seed gives one result."""

    def __init__(self, specs: Sequence[TransformSpec]):
        from monai.transforms import Compose

        self._chain = Compose([_transform(spec.type, spec.arguments) for spec in specs])

    def __call__(
        self, image_yx: npt.NDArray[np.float32], masks_nyx: Mask, seed: int
    ) -> tuple[npt.NDArray[np.float32], Mask]:
        """Image (bilinear, clipped to [0, 1]) and masks (nearest) on one grid; their size may be another afterwards.

        The masks are instances of one slice: no two hold the same pixel.
        """
        self._chain.set_random_state(seed=seed)
        # Taking the nearest pixel of one map of numbers is taking it of each mask, at the price of one.
        numbers_n11 = np.arange(1, len(masks_nyx) + 1, dtype=np.float32)[:, None, None]
        numbered = (masks_nyx * numbers_n11).sum(axis=0, dtype=np.float32)
        # Some transforms write into the image they are given (RandCoarseDropout): the caller's stays as it is.
        result = self._chain({"image": image_yx[None].copy(), "masks": numbered[None]})
        image = np.clip(np.asarray(result["image"], dtype=np.float32)[0], 0, 1)
        return image, np.asarray(result["masks"]) == numbers_n11


def augmentation_of(specs: Sequence[TransformSpec]) -> Augmentation | None:
    """The chain of `specs`, or None for an empty one (MONAI is then never imported: it takes four seconds)."""
    return Augmentation(specs) if specs else None


def _transform(name: str, arguments: Mapping[str, Any]) -> Any:
    """MONAI's dictionary form of transform `name`. Errors: ConfigError for an unknown name or argument."""
    spatial: Any = getattr(importlib.import_module(SPATIAL), f"{name}d", None)
    chosen: Any = spatial or getattr(importlib.import_module(INTENSITY), f"{name}d", None)
    if chosen is None:
        raise ConfigError(
            f"datamodule.augmentation: {name!r} is no spatial or intensity transform of MONAI; "
            "examples: RandFlip, RandRotate, RandAffine, RandZoom, RandGaussianNoise, RandAdjustContrast, RandBiasField"
        )
    settings = dict(arguments)
    if spatial and "mode" in inspect.signature(chosen).parameters:
        settings["mode"] = (settings.get("mode", "bilinear"), MASK_MODES.get(name, "nearest"))
    if name == "RandZoom" and "align_corners" in settings:
        settings["align_corners"] = (settings["align_corners"], None)  # torch has it for interpolating modes alone
    try:
        return chosen(keys=("image", "masks") if spatial else ("image",), **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"datamodule.augmentation: {name}: {error}") from None
