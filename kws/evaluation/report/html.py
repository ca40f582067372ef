"""Pages that stand alone: nothing is fetched, and no name in them becomes markup."""

import base64
import hashlib
from html import escape


def head(title: str, style: str, script: str = "") -> str:
    """The beginning of a page, up to its heading.

    Its content security policy allows the page its own style and script, named by hash, and the pictures and the sound
    that it holds itself.
    """
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src data:; "
        f"style-src '{_named(style)}'" + (f"; script-src '{_named(script)}'" if script else "")
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><h1>{escape(title)}</h1>"
    )


def image(png: bytes, alt: str) -> str:
    """A picture."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def player(flac: bytes) -> str:
    """A player of a sound, which is decoded only when it is wanted."""
    return (
        '<audio controls preload="none" src="data:audio/flac;base64,' + base64.b64encode(flac).decode() + '"></audio>'
    )


def encoded(text: str) -> bytes:
    """The bytes of a page: a file name that is no UTF-8 holds lone surrogates, which become question marks."""
    return text.encode(errors="replace")


def _named(text: str) -> str:
    """An inline style or script as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
