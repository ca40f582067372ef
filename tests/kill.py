"""Runs that are killed at a chosen point."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kws.commands import wake_word


class Killed(BaseException):
    """An exception that no code catches."""


@contextmanager
def death(place: Any, name: str, call: int, first: bool) -> Iterator[None]:
    """Kill a run in the call-th call of `place.name`: before the call if `first`, else after it."""
    real, calls = getattr(place, name), 0

    def deadly(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and first:
            raise Killed
        done = real(*args, **settings)
        if calls == call:
            raise Killed
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, deadly)
        with pytest.raises(Killed):
            yield


@contextmanager
def all_steps() -> Iterator[None]:
    """End a run of `kws train` after its last step, before calibration, report and export."""
    with death(wake_word, "finish", 1, True):
        yield
