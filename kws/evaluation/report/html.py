"""HTML pages from Jinja2 templates. A page stands in one file, fetches nothing, and shows every name as text."""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kws.common.files import replacing


def write_page(path: Path, template: str, style: str, script: str = "", **values: Any) -> None:
    """Render a template to a file. An older file is replaced at once or not at all.

    A content security policy allows the page its own style and script, named by hash, and images and sound that stand
    in the page. Characters that UTF-8 cannot encode, as in some file names, become question marks.

    Args:
        path: file to write; its folder exists.
        template: name of the template inside the kws package; it extends "evaluation/report/base.html".
        style, script: CSS and JavaScript, see `source`.
        values: variables of the template; `title` is required.

    Raises:
        OSError: the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("kws", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src data:; "
    policy += f"style-src '{_hash(style)}'" + (f"; script-src '{_hash(script)}'" if script else "")
    values |= {"policy": policy, "style": Markup(style), "script": Markup(script)}
    with replacing(path) as file:
        for part in environment.get_template(template).generate(values):
            file.write(part.encode(errors="replace"))


def source(name: str) -> str:
    """Text of a file inside the kws package, such as "replay/review.css"."""
    return files("kws").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name of an inline style or script in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
