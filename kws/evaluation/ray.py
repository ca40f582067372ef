"""Recordings spread over a Ray cluster (extra `kws[ray]`): the same jobs as on one machine, so the same numbers."""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kws.common.errors import KwsError
from kws.detector.checkpoint import first_line
from kws.detector.streaming import StreamScorer
from kws.evaluation.scoring import Hear, Job, Result, Take, Tell, hear, jobs_of, seconds

RETRIES = 3  # of a job whose worker was lost
WAITING = 2  # jobs sent ahead for each worker: streams that are made here then never fill the memory


def installed(asked: str) -> Any:
    """Ray, for the setting that asks for it; raises KwsError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise KwsError(f"{asked} needs the extra kws[ray]: pip install 'kws[ray]'") from error
    return ray


def connect(asked: str) -> None:
    """Join the Ray cluster of the environment (RAY_ADDRESS), or start one here; raises KwsError where there is none."""
    ray = installed(asked)
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = os.environ.get("RAY_ADDRESS", "this machine")
            raise KwsError(f"{asked}: no cluster at {where} ({first_line(error)})") from None


def hear_on_ray(opened: Callable[[], StreamScorer]) -> Hear:
    """What hears takes on the Ray cluster of the environment (RAY_ADDRESS), or on one that is started here.

    Files must be reachable under the same paths on every machine; streams that are made for the occasion are sent.
    A job whose worker is lost is given to another, up to `RETRIES` times.

    Args:
        opened: opens the detector, on the worker.

    Raises:
        KwsError: Ray is not installed.
    """
    ray = installed("engine=ray")

    def hear_all(
        detector: StreamScorer, takes: Sequence[Take], chunk_s: float, tell: Tell = lambda _: None
    ) -> list[Result]:
        connect("engine=ray")
        work = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
        ear = ray.put(opened)
        jobs = jobs_of(takes, hasattr(detector, "batch"))
        most = max(1, int(ray.cluster_resources().get("CPU", 1))) * WAITING
        sent: OrderedDict[Any, Job] = OrderedDict()
        found: dict[int, Result] = {}
        heard_s = 0.0

        def take_in(least: int) -> None:
            nonlocal heard_s
            while len(sent) > least:
                done = ray.wait(list(sent), num_returns=1)[0][0]
                job = sent.pop(done)
                try:
                    found.update(zip(job, ray.get(done), strict=True))
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", None)
                    if isinstance(cause, KwsError):
                        raise cause from None
                    of = ", ".join(str(takes[i].sound) for i in job if isinstance(takes[i].sound, Path))
                    raise KwsError(
                        f"engine=ray: a job failed {RETRIES + 1} times or more: {of or 'a stream'} "
                        f"({first_line(error)})"
                    ) from None
                heard_s += seconds([takes[i] for i in job])
                tell(heard_s)

        for job in jobs:
            take_in(most - 1)
            sent[work.remote(ear, [_sendable(takes[i]) for i in job], chunk_s)] = job
        take_in(0)
        return [found[i] for i in range(len(takes))]

    return hear_all


def _sendable(take: Take) -> Take:
    """A take that makes sense on another machine: a file by its full path, a stream as its sound."""
    if isinstance(take.sound, Path):
        return replace(take, sound=take.sound.absolute())
    return replace(take, sound=take.sound() if callable(take.sound) else take.sound)


def _work(opened: Callable[[], StreamScorer], takes: Sequence[Take], chunk_s: float) -> list[Result]:
    """A job on a worker."""
    torch.set_num_threads(1)
    return hear(opened(), takes, chunk_s)
