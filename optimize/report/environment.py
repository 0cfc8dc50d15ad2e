"""The set-up of templates of HTML pages: what comes from a study is escaped, whatever it holds."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.formatting import figure, interval_of, nonbreaking, shown_value, title_of, value_of

if TYPE_CHECKING:
    from jinja2 import Environment


def script_digest(script: str) -> str:
    """The hash of a script as a Content-Security-Policy names it: no other script runs on the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def environment(folder: Path) -> Environment:
    """Templates of a folder, with the filters that show figures and settings; an undefined name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    templates = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {
        "figure": figure, "value": value_of, "interval": interval_of, "title_of": title_of, "setting": shown_value,
        "nonbreaking": nonbreaking, "markup": Markup, "svg": lambda drawing: Markup(drawing.svg()),
    }  # fmt: skip
    return templates
