"""Reports that draw once: drawing takes a quarter of the time of a tiny run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar
from unittest import mock

Drawn = TypeVar("Drawn")


def first_of(draw: Callable[..., Drawn]) -> Callable[..., Drawn]:
    """Draw what the first call wants, and return that picture to all."""
    found = list[Drawn]()

    def first(*words: Any) -> Drawn:
        if not found:
            found.append(draw(*words))
        return found[0]

    return first


@cache
def _first() -> dict[str, Callable[..., Any]]:
    import numpy as np

    from kws.evaluation.report import page
    from kws.evaluation.report.det import DetPlot

    det = first_of(page.plot)

    def plot(outcomes: Sequence[Any]) -> DetPlot:
        """The first picture, with places for these curves."""
        places = [np.full((len(o.curve.thresholds), 2), 0.5) for o in outcomes]
        return DetPlot(det(outcomes).png, places)

    names = ("plot_example", "plot_curves", "_webp")
    return {"plot": plot} | {name: first_of(getattr(page, name)) for name in names}


@contextmanager
def repeated() -> Iterator[None]:
    """Reports show the first DET curve and the first example of the process in place of all others."""
    from kws.evaluation.report import page

    with mock.patch.multiple(page, **_first()):
        yield
