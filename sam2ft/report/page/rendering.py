"""What every HTML page is rendered with: the Jinja environment, the script of a page, its content security policy."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from sam2ft.report.plots.files import TEMPLATES

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def page_environment(filters: Mapping[str, Callable[..., object]]) -> "Environment":
    """Jinja environment of the templates, in which every value is escaped, with `filters` and those of every page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"link": link, "breakable": breakable, **filters}
    return environment


def page_script(names: Iterable[str]) -> str:
    """The modules of templates/js with these names as one script; the first holds the code that the others share."""
    shared, *others = ((TEMPLATES / "js" / f"{name}.js").read_text("utf-8") for name in names)
    return "\n".join(('"use strict";', "(() => {", shared, *(f"{{\n{text}}}" for text in others), "})();"))


def link(path: str) -> str:
    """A relative path as a URL.

    Raises:
        ValueError: when the path is absolute or leaves the folder of the page.
    """
    parts = path.split("/")
    if "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is not a path below the page's folder")
    return "./" + "/".join(quote(part, safe="") for part in parts)


def breakable(name: str) -> "Markup":
    """A name with optional line breaks (`<wbr>`) after commas, underscores and dots, not within a number."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[_,])|(?<=\.)(?![0-9])", name))


def content_security_policy(style: str, scripts: Sequence[str]) -> str:
    """Content security policy of the page: own style, scripts and images only.

    `file:` is allowed because a page that is opened from disk has no origin to which 'self' could refer.
    """
    digests = " ".join(f"'{_digest(script)}'" for script in scripts) or "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src {digests}",
            "img-src 'self' file: data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
