"""Check of licences: what jobs install is permissive, LGPL or MPL-2.0; packages under other licences are named.

`make check` runs it on the installed packages of requirements/run.txt and requirements-sam2.txt. Packages that only
tests and developers use (requirements/dev.txt) may be under any licence, because sam2ft is not shipped with them; those
that are not permissive are listed. A licence is what a package itself declares: License-Expression, else its
classifiers and the first line of License, both of which must be acceptable.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from importlib import metadata
from pathlib import Path

from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError
from sam2ft.tools.lock_file import read_lock

ROOT = Path(__file__).parents[2]

PERMISSIVE = frozenset((
    "0BSD", "AFL-2.1", "AFL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "BlueOak-1.0.0", "CC0-1.0", "CC-BY-4.0", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "NCSA", "PSF-2.0",
    "Python-2.0", "Unicode-3.0", "Unlicense", "UPL-1.0", "WTFPL", "X11", "ZPL-2.1", "Zlib",
))  # fmt: skip
# Copyleft of the library's own files: what uses it stays under its own licence.
WEAK_COPYLEFT = frozenset(
    ("MPL-2.0", *(f"LGPL-{n}{end}" for n in ("2.0", "2.1", "3.0") for end in ("-only", "-or-later")))
)
ALLOWED = PERMISSIVE | WEAK_COPYLEFT

UNKNOWN = "LicenseRef-unknown"
_PROPRIETARY = "LicenseRef-Proprietary"
_CLASSIFIERS = {
    "Academic Free License (AFL)": "AFL-3.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0-or-later",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Other/Proprietary License": _PROPRIETARY,
}
# Not a licence.
_IGNORED_CLASSIFIERS = frozenset(("OSI Approved", "DFSG approved"))
# What people write where a name of SPDX belongs; whole lines, in lower case.
_WORDS = {
    "2-clause bsd": "BSD-2-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "lgpl": "LGPL-2.0-or-later",
    "mit license": "MIT",
    "mit licensed, as found in the license file": "MIT",
    "mpl 2.0": "MPL-2.0",
    "nvidia proprietary software": _PROPRIETARY,
    "psf": "PSF-2.0",
    "unlicense": "Unlicense",
}
# Packages (whole name, or a beginning that ends in "-") that may be proprietary or say nothing, with the reason.
# A GPL or AGPL is never excused here.
EXCUSED = {
    "cuda-toolkit": "NVIDIA's EULA; a package without files that requires the nvidia- packages",
    "nvidia-": "proprietary, NVIDIA's EULA: installed by pip from their publisher with PyTorch's CUDA build; sam2ft "
    "does not ship them",
}


def licence_of(package: Message) -> str:
    """The licence that the metadata of a package declares, as an expression of SPDX; `LicenseRef-unknown` without one.

    What no table here knows stays as it was written, and is refused by `is_allowed`.
    """
    if expression := str(package["License-Expression"] or "").strip():
        return expression
    found = [name for text in package.get_all("Classifier") or () if (name := _of_classifier(str(text)))]
    line = next(iter(str(package["License"] or "").strip().splitlines()), "").strip()
    worded = _WORDS.get(line.lower(), line)
    # A whole licence text in the field starts with a title or a copyright line, which names no licence.
    if worded and (is_allowed(worded) or not found or re.search(r"\bA?GPL|General Public", line)):
        found.append(worded if re.fullmatch(r"[\w.+-]+( (AND|OR|WITH) [\w.+-]+)*", worded) else f"({worded})")
    return " AND ".join(sorted(set(found))) or UNKNOWN


def _of_classifier(text: str) -> str:
    topic, _, name = (part.strip() for part in text.rpartition("::"))
    if not topic.startswith("License") or name in _IGNORED_CLASSIFIERS:
        return ""
    return _CLASSIFIERS.get(name, f"({name})")


def is_allowed(expression: str) -> bool:
    """Whether an expression of SPDX allows use under a licence of `ALLOWED`: one side of OR, both sides of AND.

    An exception (`WITH`) only adds rights: the licence before it decides. What is no expression is not allowed.
    """
    tokens = re.findall(r"[()]|[^\s()]+", re.sub(r"\bWITH\s+\S+", "", expression))
    try:
        value = _either(tokens)
    except IndexError:
        return False
    return value and not tokens


def _either(tokens: list[str]) -> bool:
    """Consume `both (OR both)*` from the front of `tokens`."""
    value = _both(tokens)
    while tokens and tokens[0].upper() == "OR":
        tokens.pop(0)
        value = _both(tokens) or value
    return value


def _both(tokens: list[str]) -> bool:
    """Consume `one (AND one)*`; `one` is a licence or an expression in parentheses."""
    value = _one(tokens)
    while tokens and tokens[0].upper() == "AND":
        tokens.pop(0)
        value = _one(tokens) and value
    return value


def _one(tokens: list[str]) -> bool:
    word = tokens.pop(0)
    if word != "(":
        return word in ALLOWED
    value = _either(tokens)
    return tokens.pop(0) == ")" and value


def excuse_for(name: str, licence: str) -> str | None:
    """Why a package with a licence that is not allowed may be installed; None when it may not."""
    if re.search(r"GPL|General Public", licence):
        return None
    return next((why for key, why in EXCUSED.items() if name == key or (key[-1] == "-" and name.startswith(key))), None)


def refused(licences: Mapping[str, str]) -> Iterator[str]:
    """A line for each package (name -> licence) that may not be a dependency of a job."""
    for name, licence in licences.items():
        if not is_allowed(licence) and excuse_for(name, licence) is None:
            yield f"{name}: licence {licence}; dependencies are permissive, LGPL or MPL-2.0: replace it"


def installed_licences(names: Iterable[str]) -> dict[str, str]:
    """Licence of each installed package.

    Raises:
        DataError: one of them is not installed.
    """
    found = {}
    for name in names:
        try:
            found[name] = licence_of(metadata.metadata(name))  # type: ignore[arg-type]  # it is a Message
        except metadata.PackageNotFoundError:
            raise DataError(f"{name}: in requirements/ but not installed here; run `make setup`") from None
    return found


def wanted(*locks: Path) -> list[str]:
    """Names of the packages of lock files that this platform installs."""
    return list(dict.fromkeys(pin.name for lock in locks for pin in read_lock(lock).values() if pin.wanted_here))


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the licences of the installed packages.")
    parser.add_argument("--list", action="store_true", help="print the licence of every package of a job")
    shown = parser.parse_args().list
    of_jobs = installed_licences(wanted(ROOT / "requirements/run.txt", ROOT / "requirements-sam2.txt"))
    of_tests = installed_licences(name for name in wanted(ROOT / "requirements/dev.txt") if name not in of_jobs)
    if shown:
        print("\n".join(f"{name}\t{licence}" for name, licence in of_jobs.items()))
    problems = list(refused(of_jobs))
    if problems:
        raise DataError("\n".join(problems))
    for name in (name for name, licence in of_tests.items() if not is_allowed(licence)):
        print(f"licences: {name} ({of_tests[name]}) is used by tests only, and not shipped", file=sys.stderr)
    excused = sum(not is_allowed(licence) for licence in of_jobs.values())
    weak = sum(any(name in licence for name in WEAK_COPYLEFT) for licence in of_jobs.values())
    print(
        f"licences: {len(of_jobs)} packages of jobs: {len(of_jobs) - weak - excused} permissive, {weak} MPL or LGPL, "
        f"{excused} proprietary (NVIDIA, installed from their publisher)"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
