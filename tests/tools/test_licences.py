"""Licences: what metadata says, which expressions are allowed, and that a GPL fails with the package's name."""

from email.message import Message

import pytest

from sam2ft.core.errors import DataError
from sam2ft.tools.licences import excuse_for, installed_licences, is_allowed, licence_of, refused

GPL3 = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
AGPL = "License :: OSI Approved :: GNU Affero General Public License v3 or later (AGPLv3+)"
MIT = "License :: OSI Approved :: MIT License"


def package(expression="", licence="", classifiers=()):
    message = Message()
    for name, value in (
        ("License-Expression", expression),
        ("License", licence),
        *(("Classifier", c) for c in classifiers),
    ):
        if value:
            message[name] = value
    return message


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "LGPL-2.1-or-later",
        "MPL-2.0 AND MIT",
        "GPL-3.0-only OR MIT",
        "(GPL-2.0-only OR Apache-2.0) AND BSD-3-Clause",
        "Apache-2.0 WITH LLVM-exception AND MIT",
        "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause AND BSL-1.0",
        "mit or apache-2.0 OR MIT",
    ],
)
def test_allowed(expression):
    assert is_allowed(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-or-later",
        "AGPL-3.0-only",
        "MIT AND GPL-2.0-only",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "(MIT OR Apache-2.0) AND AGPL-3.0-or-later",
        "LicenseRef-unknown",
        "SSPL-1.0",
        "",
        "MIT OR",
        "(MIT",
        "MIT)",
        "MIT Apache-2.0",
        "Free for academic use",
    ],
)
def test_not_allowed(expression):
    assert not is_allowed(expression)


@pytest.mark.parametrize(
    ("found", "licence"),
    [
        (package("MIT"), "MIT"),
        (package("MIT", "GPL", [GPL3]), "MIT"),  # the expression is the newest and exact form
        (package(licence="Apache 2.0"), "Apache-2.0"),
        (package(licence="BSD"), "BSD-3-Clause"),
        (package(classifiers=[MIT]), "MIT"),
        (package(licence="Copyright (c) 2012\nlong text", classifiers=[MIT]), "MIT"),
        (package(licence="MPL-2.0 AND MIT"), "MPL-2.0 AND MIT"),
        (package(classifiers=["License :: OSI Approved", MIT]), "MIT"),
        (package(), "LicenseRef-unknown"),
    ],
)
def test_licence_of_metadata(found, licence):
    assert licence_of(found) == licence


@pytest.mark.parametrize(
    "found",
    [
        package("GPL-3.0-only"),
        package(classifiers=[GPL3]),
        package(classifiers=[AGPL]),
        package(licence="GPLv3", classifiers=[MIT]),
        package(licence="GNU General Public License v2"),
        package(classifiers=[MIT, GPL3]),
        package(licence="AGPL"),
        package(licence="see LICENSE"),
        package(),
    ],
)
def test_gpl_and_unknown_licences_are_refused_with_the_name(found):
    (line,) = refused({"good": "MIT", "bad-one": licence_of(found)})
    assert line.startswith("bad-one: licence ")
    assert "permissive, LGPL or MPL-2.0" in line


def test_excuses_cover_nvidia_but_no_gpl():
    assert excuse_for("nvidia-cublas", "LicenseRef-Proprietary")
    assert excuse_for("nvidia", "LicenseRef-Proprietary") is None
    assert excuse_for("other", "LicenseRef-Proprietary") is None
    assert excuse_for("nvidia-cublas", "GPL-3.0-only") is None
    assert list(refused({"nvidia-cublas": "LicenseRef-Proprietary", "nvidia-x": "MIT AND AGPL-3.0-only"})) == [
        "nvidia-x: licence MIT AND AGPL-3.0-only; dependencies are permissive, LGPL or MPL-2.0: replace it"
    ]


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(
        DataError, match="no-such-package-here: in requirements/ but not installed here; run `make setup`"
    ):
        installed_licences(["numpy", "no-such-package-here"])
