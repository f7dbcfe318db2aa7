"""A hook of MkDocs: links to files of the repository outside docs/ lead to the repository's web page."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]*)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace relative links that leave docs/ by addresses in the repository.

    Raises:
        FileNotFoundError: If a link names a file that the repository does not contain.
    """
    root = Path(config.config_file_path).parent

    def replace(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), match[2]))
        if path.startswith("docs/"):
            return match[0]
        if not (root / path).exists():
            raise FileNotFoundError(f"docs/{page.file.src_uri}: the repository has no {path}")
        kind = "tree" if (root / path).is_dir() else "blob"
        return f"{match[1]}{config.repo_url}/{kind}/main/{path}"

    return _LINK.sub(replace, markdown)
