"""Finding the files of each volume by a table: one line each."""

import csv
import io
from collections.abc import Collection
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.row import DEFAULT_VOLUME, VolumeFiles, checked_rows


def find_by_table(dataset: str, table: Path, base: Path, optional_maps: Collection[str] = ()) -> list[VolumeFiles]:
    """One source per line of a CSV with the columns subject, image, mask, and optionally volume and map_<name>.

    Paths are relative to `base`. The cell of a map in `optional_maps` may be empty.

    Raises:
        DataError: naming the file and the line with the problem.
    """
    if not table.is_file():
        raise DataError(f"{table}: no such file; sources.images names a table that does not exist")
    with io.StringIO(table_text(table), newline="") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        unknown = [
            name for name in columns if name not in ("subject", "volume", "image", "mask") and name[:4] != "map_"
        ]
        missing = [name for name in ("subject", "image", "mask") if name not in columns]
        if unknown or missing:
            raise DataError(
                f"{table}: columns {', '.join(columns)}; needed: subject, image, mask; allowed: volume, map_<name>"
            )
        sources = []
        for number, line in enumerate(reader, start=2):
            line = {name: (line[name] or "").strip() for name in columns}  # noqa: PLW2901
            if empty := [name for name in columns if not line[name] and name.removeprefix("map_") not in optional_maps]:
                maps_too = any(name.startswith("map_") for name in empty)
                hint = f"; sources.maps.{empty[-1][4:]}.optional: true allows it" if maps_too else ""
                raise DataError(f"{table}:{number}: {', '.join(empty)} is empty{hint}")
            key = VolumeKey(dataset, line["subject"], line.get("volume", DEFAULT_VOLUME))
            maps = {name[4:]: base / line[name] for name in columns if name.startswith("map_") and line[name]}
            sources.append(VolumeFiles(key, base / line["image"], base / line["mask"], maps))
    if not sources:
        raise DataError(f"{table}: no line below the header")
    return checked_rows(sources, str(table))


def table_text(table: Path) -> str:
    """The text of a table; DataError with the line when it is not UTF-8."""
    content = table.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{table}:{line}: byte 0x{content[error.start]:02x} is not UTF-8; save the table as UTF-8 (from Latin-1: "
            f"iconv -f latin1 -t utf-8 {table.name} > new.csv)"
        ) from None
