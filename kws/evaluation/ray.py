"""Scoring on a Ray cluster (extra `kws[ray]`): the batches of one machine, so the same scores."""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kws.common.errors import KwsError, first_line, missing_extra
from kws.data.audio import BadAudio
from kws.detector.streaming import StreamScorer
from kws.evaluation.scoring import (
    Batch,
    Progress,
    Result,
    ScoreAll,
    StreamSource,
    group_sources,
    score_sources,
    total_s,
)

RETRIES = 3  # of a batch whose worker was lost
BATCHES_PER_WORKER = 2  # sent ahead: streams that are composed here then never fill the memory


def installed(setting: str) -> Any:
    """Import Ray for the setting that needs it; raises KwsError if Ray is not installed."""
    try:
        import ray
    except ImportError as error:
        raise missing_extra(setting, "ray") from error
    return ray


def connect(setting: str) -> None:
    """Join the Ray cluster at RAY_ADDRESS, or start one on this machine; raises KwsError if there is no cluster."""
    ray = installed(setting)
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = os.environ.get("RAY_ADDRESS", "this machine")
            raise KwsError(f"{setting}: no cluster at {where} ({first_line(error)})") from None


def score_all_on_ray(load: Callable[[], StreamScorer]) -> ScoreAll:
    """`score_all` on the Ray cluster at RAY_ADDRESS, or on one that is started on this machine.

    Files must have the same paths on every machine; composed streams are sent. The batch of a lost worker goes to
    another worker, up to `RETRIES` times.

    Args:
        load: loads the detector, on the worker.

    Raises:
        KwsError: Ray is not installed.
    """
    ray = installed("engine=ray")

    def score_all(
        detector: StreamScorer, sources: Sequence[StreamSource], chunk_s: float, progress: Progress = lambda _: None
    ) -> list[Result]:
        connect("engine=ray")
        work = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
        loader = ray.put(load)
        batches = group_sources(sources, hasattr(detector, "batch"))
        limit = max(1, int(ray.cluster_resources().get("CPU", 1))) * BATCHES_PER_WORKER
        sent: OrderedDict[Any, Batch] = OrderedDict()
        results: dict[int, Result] = {}
        scored_s = 0.0

        def collect(remaining: int) -> None:
            nonlocal scored_s
            while len(sent) > remaining:
                done = ray.wait(list(sent), num_returns=1)[0][0]
                batch = sent.pop(done)
                try:
                    results.update(zip(batch, ray.get(done), strict=True))
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", None)
                    if isinstance(cause, KwsError):
                        raise cause from None
                    files = ", ".join(str(sources[i].audio) for i in batch if isinstance(sources[i].audio, Path))
                    raise KwsError(
                        f"engine=ray: a batch failed {RETRIES + 1} times or more: {files or 'a stream'} "
                        f"({first_line(error)})"
                    ) from None
                scored_s += total_s([sources[i] for i in batch])
                progress(scored_s)

        for batch in batches:
            collect(limit - 1)
            try:
                sendable = [_sendable(sources[i]) for i in batch]
            except BadAudio as error:  # a stream of one recording is a batch of its own
                results.update(dict.fromkeys(batch, error))
                scored_s += total_s([sources[i] for i in batch])
                continue
            sent[work.remote(loader, sendable, chunk_s)] = batch
        collect(0)
        return [results[i] for i in range(len(sources))]

    return score_all


def _sendable(source: StreamSource) -> StreamSource:
    """The source for another machine: a file by its absolute path, a stream as its samples."""
    if isinstance(source.audio, Path):
        return replace(source, audio=source.audio.absolute())
    return replace(source, audio=source.audio() if callable(source.audio) else source.audio)


def _work(load: Callable[[], StreamScorer], sources: Sequence[StreamSource], chunk_s: float) -> list[Result]:
    """Score one batch on a worker."""
    torch.set_num_threads(1)
    return score_sources(load(), sources, chunk_s)
