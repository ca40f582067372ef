"""Reports that draw once: drawing takes a quarter of the time of a tiny run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock


def first_of(draw: Callable[..., bytes]) -> Callable[..., bytes]:
    """Draw what the first call wants, and return that picture to all."""
    found = list[bytes]()

    def first(*words: Any) -> bytes:
        if not found:
            found.append(draw(*words))
        return found[0]

    return first


@cache
def _first() -> dict[str, Callable[..., bytes]]:
    from kws.evaluation.report import page

    return {name: first_of(getattr(page, name)) for name in ("plot", "plot_example")}


@contextmanager
def repeated() -> Iterator[None]:
    """Reports show the first DET curve and the first example of the process in place of all others."""
    from kws.evaluation.report import page

    with mock.patch.multiple(page, **_first()):
        yield
