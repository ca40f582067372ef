"""Comparison of names: of keywords, labels, columns and files, as people and file systems write them."""

import os
import re
import unicodedata

_NO_UTF8 = re.compile("[\udc80-\udcff]")  # bytes of a file name that are not UTF-8, as Python reads them
_NO_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # other halves of a character, in no file name


def folded(name: str) -> str:
    """A name without case, Unicode form, blanks, `_` and `-`: `Hey Jarvis` and `hey-jarvis` are one."""
    text = _same_form(name)
    return re.sub(r"[\s_\-\u2010-\u2015\ufeff]+", "", text) or text


def same_word(label: str, keyword: str) -> bool:
    """Whether two names differ at most in case, Unicode form, blanks, `_` and `-`."""
    return folded(label) == folded(keyword)


def file_key(name: str) -> str:
    """A file name without case and Unicode form: what archives and other file systems change in it."""
    return _same_form(shown(name))


def shown(name: str) -> str:
    """A file name or path as text. What is not UTF-8 is read as cp1252, the encoding of archives from Windows."""
    return "/".join(map(_shown, name.split("/")))


def _shown(name: str) -> str:
    name = _NO_CHARACTER.sub("?", name)
    return os.fsencode(name).decode("cp1252", "replace") if _NO_UTF8.search(name) else name


def _same_form(name: str) -> str:
    # Case folding may undo the normalisation, hence twice.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
