"""Values of DICOM headers through one checked accessor: whatever a header holds, the answer is a number or a DataError.

Headers of real files have empty values, decimal commas, several values where one belongs, text, NaN, and elements of
the wrong type (VR). A value that is required is refused with file, attribute and value; one that is only kept as
metadata is left out with a note.
"""

import math
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError

from sam2ft.core.errors import DataError
from sam2ft.core.quiet import DecoderComplainedError

# What pydicom and its decoders raise on damaged files; no program error of ours is among the reasons to catch them.
DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, BytesLengthException, DecoderComplainedError,
    EOFError, InvalidDicomError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
_LIKE_NUMBERS = re.compile(r"(?:[-+0-9.,;_eE\\ ]|nan|inf|None)*", re.IGNORECASE)
_PIXEL_GROUP = 0x7FE0
# Types whose values depend on no other element, as the character set of text does. Slices of one series share most of
# these values, so that each is decoded once: pydicom needs longer to decode a header than to read the file.
_NUMBERS, _CODES = frozenset(("DS", "IS", "US", "SS", "UL", "SL", "FD", "FL")), frozenset(("UI", "CS"))
_MOST_KEPT, _MOST_BYTES = 1 << 12, 256
# Longer values are cut in messages.
_MOST_SHOWN = 40


class WithHeader(Protocol):
    """A file with its header."""

    @property
    def path(self) -> Path: ...
    @property
    def header(self) -> pydicom.Dataset: ...


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what pydicom raises on damaged files into a DataError that names `path`, without its warnings.

    Raises:
        DataError: instead of any of `DAMAGE`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason_of(error)})") from None
        except DAMAGE as error:
            raise DataError(f"{path}: damaged DICOM file ({reason_of(error)}); export it again") from None


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (EOFError, "it ends too early"),
    (DecoderComplainedError, "its compressed pixels are damaged"),
    (BytesLengthException, "a value of another length than its type has"),
    (InvalidDicomError, "it does not begin as DICOM"),
    (UnicodeError, "text in another character set than it declares"),
    (struct.error, "a value of another length than its type has"),
    (zlib.error, "its compressed data set is damaged"),
    (NotImplementedError, "a kind of content that pydicom cannot read"),
    (RecursionError, "sequences that are nested too deeply"),
)


def reason_of(error: BaseException) -> str:
    """Why a library refused a file, without the text of its error, which may quote names and dates of a header."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)


def raw_value(header: pydicom.Dataset, attribute: str) -> Any:
    """The value of an attribute, None when it is absent; text where the value does not have the type of its VR."""
    try:
        tag = _tag(attribute)
        return header.get(attribute) if tag is None else header[tag].value if tag in header else None
    except AttributeError:
        return None  # as `get` does
    except DAMAGE:
        pass
    try:
        value = header.get_item(attribute).value
        return value.decode("latin-1").strip(" \0").split("\\") if isinstance(value, bytes) else value
    except DAMAGE:
        return "an unreadable value"


def numbers(header: pydicom.Dataset, attribute: str, count: int = 1) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None when the attribute is absent or empty.

    Raises:
        DataError: naming attribute and value, not the file (see `core.errors.naming`).
    """
    element = _undecoded(header, attribute, _NUMBERS)
    if element is not None:
        return _numbers_of(attribute, element.VR, element.value, element.is_little_endian, count)
    return _checked_numbers(header, attribute, count)


@cache
def _tag(attribute: str) -> pydicom.tag.BaseTag | None:
    tag = tag_for_keyword(attribute)
    return None if tag is None else pydicom.tag.Tag(tag)


def _undecoded(header: pydicom.Dataset, attribute: str, types: Collection[str]) -> Any:
    """The element as it is in the file, if it is of one of these types and was not decoded before; else None."""
    tag = _tag(attribute)
    element = None if tag is None else header.get_item(tag, keep_deferred=True)
    if not isinstance(element, RawDataElement) or element.VR not in types or element.is_implicit_VR:
        return None
    return element if element.value is not None and len(element.value) <= _MOST_BYTES else None


def _alone(attribute: str, vr: str, value: bytes, *, little: bool) -> pydicom.Dataset:
    """A header that holds one element of explicit type."""
    tag = _tag(attribute)
    element = RawDataElement(tag, vr, len(value), value, 0, False, little)
    return pydicom.Dataset({tag: element})


@lru_cache(_MOST_KEPT)
def _numbers_of(attribute: str, vr: str, value: bytes, little: bool, count: int) -> tuple[float, ...] | None:
    return _checked_numbers(_alone(attribute, vr, value, little=little), attribute, count)


def _checked_numbers(header: pydicom.Dataset, attribute: str, count: int) -> tuple[float, ...] | None:
    value = raw_value(header, attribute)
    values = list(value) if isinstance(value, list | tuple) or _is_multiple(value) else [value]
    if all(_is_empty(one) for one in values):
        return None
    found = [_number(one) for one in values]
    if len(found) != count or not all(math.isfinite(one) for one in found):
        allowed = "one finite number" if count == 1 else f"{count} finite numbers"
        raise DataError(f"{attribute} is {_shown(values)}; allowed: {allowed} (with a decimal point)")
    return tuple(found)


def number(header: pydicom.Dataset, attribute: str) -> float | None:
    """One finite number, or None when the attribute is absent or empty.

    Raises:
        DataError: as `numbers`.
    """
    found = numbers(header, attribute)
    return None if found is None else found[0]


def required(path: Path, header: pydicom.Dataset, attribute: str, count: int, why: str) -> tuple[float, ...]:
    """Exactly `count` finite numbers.

    Args:
        why: what is unknown without them, for the message.

    Raises:
        DataError: naming file, attribute and value.
    """
    try:
        found = numbers(header, attribute, count)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if found is None:
        raise DataError(f"{path}: has no {attribute}; without it {why}; export the series again with this attribute")
    return found


def required_whole(path: Path, header: pydicom.Dataset, attribute: str) -> int:
    """One whole number above 0.

    Raises:
        DataError: naming file, attribute and value.
    """
    (found,) = required(path, header, attribute, 1, "the size of the image is unknown")
    if found < 1 or found != int(found):
        raise DataError(f"{path}: {attribute} is {found:g}; allowed: a whole number above 0")
    return int(found)


def optional(files: Sequence[WithHeader], attribute: str, *, whole: bool = False) -> tuple[list[float | None], str]:
    """(one number per file, a note): None where the attribute is absent, empty or no number; the note names the last.

    Args:
        whole: only whole numbers count.
    """
    found: list[float | None] = []
    wrong: list[str] = []
    for file in files:
        try:
            value = number(file.header, attribute)
            if whole and value is not None and value != int(value):
                raise DataError(f"{attribute} is {value:g}; allowed: a whole number")
        except DataError as error:
            value = None
            wrong.append(f"{error} (in {file.path.name})")
        found.append(value)
    note = f"{attribute} is left out for {len(wrong)} of {len(files)} images: {wrong[0]}" if wrong else ""
    return found, note


def text(header: pydicom.Dataset, attribute: str) -> str:
    """The value as text in one line; empty when it is absent or empty."""
    if (element := _undecoded(header, attribute, _CODES)) is not None:
        return _text_of(attribute, element.VR, element.value, element.is_little_endian)
    return _joined_text(header, attribute)


@lru_cache(_MOST_KEPT)
def _text_of(attribute: str, vr: str, value: bytes, little: bool) -> str:
    return _joined_text(_alone(attribute, vr, value, little=little), attribute)


def _joined_text(header: pydicom.Dataset, attribute: str) -> str:
    value = raw_value(header, attribute)
    if value is None:
        return ""
    try:
        return " ".join(str(value).split())
    except DAMAGE:
        return ""


def image_kinds(header: pydicom.Dataset) -> list[str]:
    """The values of ImageType, in capitals."""
    given = raw_value(header, "ImageType") or ()
    return [given.upper()] if isinstance(given, str) else [str(kind).strip().upper() for kind in given]


def _is_multiple(value: Any) -> bool:
    return isinstance(value, pydicom.multival.MultiValue | pydicom.Sequence)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | bytes) and not value.strip())


def _number(value: Any) -> float:
    """The number, NaN when it is none. Digits are grouped by underscores in Python only."""
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip(" \0")
    written = getattr(value, "original_string", value)
    if isinstance(value, bool) or (isinstance(written, str) and "_" in written):
        return math.nan
    try:
        return float(value)
    except DAMAGE:
        return math.nan


def _shown(values: Sequence[Any]) -> str:
    """What can be meant as numbers, for a message. Other text is only counted: it may say anything about a person."""
    try:
        joined = "\\".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values)
    except DAMAGE:
        return "an unreadable value"
    if not _LIKE_NUMBERS.fullmatch(joined):
        return f"text of {len(joined)} characters"
    return f"'{joined if len(joined) <= _MOST_SHOWN else joined[:_MOST_SHOWN] + '...'}'"


def without_sequences(header: pydicom.Dataset) -> pydicom.Dataset:
    """A copy of the header of a file of several images, without sequences and pixels, which belong to all of them."""
    flat = pydicom.Dataset()
    for tag in list(header.keys()):  # iterating over the header itself converts every value
        if tag.group < _PIXEL_GROUP and header.get_item(tag).VR != "SQ":
            flat[tag] = header.get_item(tag)
    return flat


def like(header: pydicom.Dataset, whole: pydicom.Dataset) -> pydicom.Dataset:
    """A copy of `header` that is encoded as the file `whole` is."""
    flat = pydicom.Dataset()
    flat.update({tag: header.get_item(tag) for tag in list(header.keys())})
    flat.set_original_encoding(*whole.original_encoding, whole.original_character_set)
    flat.file_meta = whole.file_meta
    return flat


def put(header: pydicom.Dataset, keyword: str, value: Any) -> None:
    """Give an attribute a value in this header alone: elements that were copied are those of the other header too."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no attribute of DICOM")
    header.add_new(tag, dictionary_VR(tag), value)
