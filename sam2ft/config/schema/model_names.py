"""Names of SAM 2 models: those of the official ones, and which one a name means that no model has, for messages."""

import re
from collections.abc import Collection, Mapping

from sam2ft.config.schema.arguments import did_you_mean
from sam2ft.config.schema.base import ReadOnlyDict

NANO = "sam2_nano"

WEIGHTS_ENDINGS = (".pt", ".pth", ".safetensors", ".ckpt")
_SIZES = {
    "tiny": "t",
    "small": "s",
    "base_plus": "b+",
    "baseplus": "b+",
    "base+": "b+",
    "base": "b+",
    "b+": "b+",
    "large": "l",
    "huge": "l",
    "t": "t",
    "s": "s",
    "b": "b+",
    "l": "l",
}
"""Word for a size -> its letter in the configs of sam2; the first that a name has."""
MODELS: Mapping[str, str] = ReadOnlyDict(
    {
        f"{version}_hiera_{size}": f"configs/{version}/{version}_hiera_{_SIZES[size]}.yaml"
        for version in ("sam2", "sam2.1")
        for size in ("tiny", "small", "base_plus", "large")
    }
)
"""Name of an official model, as in the name of its file of weights -> its config in the sam2 package."""


def model_name(config: str) -> str:
    """The name in MODELS of a config of the sam2 package; any other text (`sam2_nano`, a name) as it is."""
    return next((name for name, known in MODELS.items() if known == config), config)


def model_hint(name: str, known: Collection[str]) -> str:
    """Text such as ` (did you mean sam2.1_hiera_tiny?)` for a name that is not in `known`; empty without a near one."""
    meant = _version_and_size(name)
    near = next((one for one in known if meant is not None and _version_and_size(one) == meant), None)
    if name.lower().endswith(WEIGHTS_ENDINGS):
        such = f"; its model may be {near}" if near else ""
        return f" (the name of a file of weights, which belongs under module.sam2_checkpoint{such})"
    return f" (did you mean {near}?)" if near else did_you_mean(name, known)


def _version_and_size(name: str) -> tuple[str, str] | None:
    """(version, letter of the size) of a name; without a version that of the newest models; None without a size."""
    stem = re.sub(r"\.(yaml|yml|pt|pth|safetensors|ckpt)$", "", name.lower().replace("\\", "/").rsplit("/", 1)[-1])
    version = "2.1" if re.search(r"2[._-]?1", stem) else "2" if re.search(r"sam-?_?v?2", stem) else "2.1"
    words = re.split(r"[\s._-]+", re.sub(r"base[\s_-]plus", "baseplus", stem))
    size = next((letter for word, letter in _SIZES.items() if word in words), None)
    return None if size is None else (version, size)
