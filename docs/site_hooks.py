"""Hooks of the site (mkdocs.yml): links to files of the repository that are no pages become their paths.

The same pages are read on GitHub, where these links lead to the files.
"""

import posixpath
import re
from typing import Any

_FENCE_OR_LINK = re.compile(r"^```.*?^```|(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)", re.MULTILINE | re.DOTALL)


def with_paths(markdown: str, page: str) -> str:
    """The text of a page in which a link that leaves docs/ is its label and the path in the repository.

    Args:
        page: path of the page below docs/, such as `start/demo.md`.
    """

    def shown(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        if target is None or re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if path.startswith("docs/"):
            return found[0]
        named = label.strip("`")
        return f"`{path}`" if named.rstrip("/") in (path, posixpath.basename(path)) else f"{label} (`{path}`)"

    return _FENCE_OR_LINK.sub(shown, markdown)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return with_paths(markdown, page.file.src_uri)
