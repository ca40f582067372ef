"""Plugins: modules of the user that register models, augmentations, eviction rules or mining sources."""

import importlib
import os
import sys
from collections.abc import Iterable

from kws.common.errors import KwsError


def load(words: Iterable[str]) -> None:
    """Import the modules that `plugins=[...]` of a command line names, from the current folder or installed.

    Raises:
        KwsError: a module is missing, or its import fails.
    """
    values = [word.partition("=")[2] for word in words if word.startswith("plugins=")]
    for name in (part.strip(" '\"") for value in values for part in value.strip("[]").split(",")):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except Exception as error:  # a module of the user can raise anything
            raise KwsError(f"plugins=[{name}]: must be a module that can be imported; {error!r}") from error


def check_loaded(names: Iterable[str]) -> None:
    """Refuse plugins of a recipe: nothing but the command line makes kws import code.

    Raises:
        KwsError: one of them is not imported.
    """
    for name in names:
        if name not in sys.modules:
            raise KwsError(f"plugins=[{name}]: must be given on the command line, not in a recipe")
