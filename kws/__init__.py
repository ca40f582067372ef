"""kws: a keyword-spotting trainer with hard-negative replay.

For notebooks and scripts the package offers `train`, `mine`, `load_detector`, `score`, `evaluate` and `ReplayBuffer`.
Importing kws imports nothing else; the first use of a name does.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kws.api import ReplayBuffer, TrainedRun, evaluate, load_detector, mine, score, train

__version__ = "0.1.0"
__all__ = ["ReplayBuffer", "TrainedRun", "evaluate", "load_detector", "mine", "score", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("kws.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
