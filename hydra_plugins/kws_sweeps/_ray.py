"""The runs of a sweep on Ray, one task each."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from kws.common.errors import KwsError, first_line, one_line
from kws.config.sweep import RunEnd
from kws.evaluation.ray import RETRIES, connect, installed


def launch(jobs: Sequence[tuple[Any, ...]], num_cpus: float, num_gpus: float) -> list[JobReturn]:
    """Run a sweep, as many runs at a time as the cluster has resources for; print a line as each ends.

    A run whose worker is lost restarts elsewhere, up to `RETRIES` times. A failed run does not end the others.
    All machines must reach the files under the same paths.

    Args:
        jobs: number, overrides, and the arguments of a Hydra launcher: context, configuration, task.
        num_cpus, num_gpus: of one run.

    Raises:
        KwsError: Ray is not installed, there is no cluster, or it is too small for one run.
    """
    ray = installed("hydra/launcher=ray")
    connect("hydra/launcher=ray")
    has = ray.cluster_resources()
    for key, wanted, there in (("num_cpus", num_cpus, has.get("CPU", 0)), ("num_gpus", num_gpus, has.get("GPU", 0))):
        if not 0 <= wanted <= there:
            raise KwsError(f"hydra.launcher.{key}={wanted:g}: must be between 0 and {there:g}, the size of the cluster")
    # With 0 cores Ray would start all runs at once.
    work = ray.remote(num_cpus=max(num_cpus, 0.01), num_gpus=num_gpus, max_retries=RETRIES)(_job)
    state = Singleton.get_state()
    sent = {work.remote(*job, state, os.getcwd(), num_cpus): job for job in jobs}
    waiting, found = list(sent), dict[int, JobReturn]()
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        number, overrides = sent[done][:2]
        try:
            found[number] = ray.get(done)
        except ray.exceptions.RayError as error:
            text = f"run {number}: its worker was lost {RETRIES + 1} times ({first_line(error)})"
            ended = RunEnd(f"run {number}", one_line(KwsError(text)), failed=True)
            found[number] = JobReturn(overrides, status=JobStatus.COMPLETED, _return_value=ended)
        if isinstance(ended := found[number]._return_value, RunEnd):
            ended.print()
    return [found[job[0]] for job in jobs]


def _job(
    number: int,
    overrides: list[str],
    context: HydraContext,
    config: DictConfig,
    task: TaskFunction,
    state: Any,
    folder: str,
    num_cpus: float,
) -> JobReturn:
    """A run on a worker, as in Hydra's own launchers, in the folder where the sweep was started."""
    os.chdir(folder)
    torch.set_num_threads(max(1, int(num_cpus)))
    setup_globals()
    Singleton.set_state(state)
    own = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(own):
        own.hydra.job.id, own.hydra.job.num = f"{own.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(own)
    return run_job(task, own, "hydra.sweep.dir", "hydra.sweep.subdir", context)
