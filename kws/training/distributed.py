"""One training by several processes: torchrun starts them, Lightning Fabric joins them, the first of them leads.

Each makes its own rows of every batch. Gradients, batch norms and what is learned of replayed clips are those of the
whole batch, so all have the same weights and priorities, and their number changes nothing but rounding.
"""

import atexit
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from kws.common.errors import KwsError, printable

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes more than a second, which other verbs need not spend


import shutil

T = TypeVar("T")

# Others wait while the first mines, which takes what it takes; a process that died is noticed at once all the same.
PATIENCE = timedelta(days=7)
GRACE_S = 10  # until a process ends by itself that torchrun should have ended


class Elsewhere(Exception):
    """The first process failed, and has said why."""


class Distributed:
    """The processes of a training.

    Args:
        fabric: joins them.
        device: of this process.

    Where there are several, made by all of them at the same time.
    """

    def __init__(self, fabric: "Fabric", device: torch.device) -> None:
        self.fabric, self.device = fabric, device
        self.rank, self.size = fabric.global_rank, fabric.world_size
        # Waiting for the first process takes no GPU, and objects are sent from memory to memory.
        self._group = distributed.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None

    @property
    def leads(self) -> bool:
        """Is this the process that mines, writes and speaks?"""
        return self.rank == 0

    def first(self, work: Callable[[], T]) -> T:
        """What the first process makes of `work`, for all of them; meanwhile the others wait.

        Raises:
            Elsewhere: the first process failed, on all others.
        """
        if self.size == 1:
            return work()
        if not self.leads:
            message: tuple[bool, T] = self._sent(None)
            if not message[0]:
                raise Elsewhere
            return message[1]
        try:
            made = work()
        except BaseException:
            self._sent((False, None))
            raise
        self._sent((True, made))
        return made

    def in_turn(self, work: Callable[[], T]) -> T:
        """`work` by every process, by the first before the others: it may fill a cache that they read.

        Raises:
            Elsewhere: the first process failed, on all others.
        """
        made: list[T] = []
        self.first(lambda: made.append(work()))
        return made[0] if made else work()

    def _sent(self, message: tuple[bool, T | None] | None) -> tuple[bool, T]:
        box = [message]
        distributed.broadcast_object_list(box, 0, self._group, torch.device("cpu"))
        return cast(tuple[bool, T], box[0])

    def rows(self, n: int) -> Tensor:
        """The rows of a batch of `n` that this process makes: every so many, so that each has some of all kinds."""
        return torch.arange(self.rank, n, self.size)

    def whole(self, mine: Tensor, n: int) -> Tensor:
        """One number for each row of a batch of `n`, of which each process knows its own. Shape: returns [n]."""
        if self.size == 1:
            return mine
        every = torch.zeros(n, dtype=mine.dtype, device=mine.device)
        every[self.rows(n).to(mine.device)] = mine  # the others add zeros: exact
        distributed.all_reduce(every)
        return every

    def gathered(self, mine: Sequence[T]) -> list[T]:
        """What all processes have, one process after another."""
        if self.size == 1:
            return list(mine)
        box: list[Any] = [None] * self.size
        distributed.all_gather_object(box, list(mine), self._group)
        return [one for some in box for one in some]

    def join(self, net: nn.Module, faster: bool = False) -> nn.Module:
        """The net as it is to be called in training: its gradients are shared, its batch norms see the whole batch.

        `net` keeps the weights and the names of its state; it is compiled if it is to be faster.
        """
        if self.size > 1:
            synced(net)
        called = compiled(net, self.device) if faster else net
        return self.fabric.setup_module(called, move_to_device=False)

    def backward(self, part: Tensor) -> None:
        """Gradients of a loss that is the sum over the processes of each one's `part`."""
        self.fabric.backward(part * self.size if self.size > 1 else part)  # what is shared is the mean

    def outlive(self) -> NoReturn:
        """End after the process that failed: torchrun ends all with the first that ends.

        It might not have said why by then, and torchrun would name another as the one that failed.
        """
        with suppress(RuntimeError):
            distributed.barrier(self._group)  # fails when it is gone
        time.sleep(GRACE_S)
        sys.exit(2)

    def leave(self) -> None:
        """Training is done: from here on the first process goes on alone."""
        if self.size > 1:
            distributed.barrier(self._group)
            distributed.destroy_process_group()


@contextmanager
def together(device: torch.device, precision: str) -> Iterator[Distributed]:
    """The processes that torchrun started for this training, or this one alone; one that fails ends all of them.

    Args:
        device: where to train; several processes on GPUs take one each, so it names none.
        precision: 32-true, or bf16-mixed on a GPU: the net is heard in bfloat16 and kept in float32.

    Raises:
        KwsError: a device or precision that cannot be; here or, once they are joined, on the first process alone.
    """
    if precision != "32-true" and device.type != "cuda":
        raise KwsError(f"precision={precision}: allowed on device={device.type} is 32-true")
    size, here_n = processes(), processes("LOCAL_WORLD_SIZE")
    if size > 1:
        device = own_device(device, here_n)
    ranks = Distributed(fabric(device, precision, size, here_n), device)
    try:
        yield ranks
    except Elsewhere:
        atexit.register(end_at_once)
        ranks.outlive()
    except (KwsError, OSError) as error:
        if ranks.size > 1:
            atexit.register(end_at_once)
        if ranks.leads:
            raise  # and said, like any other
        print(f"kws: process {ranks.rank}: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if not lost(error):
            raise
        atexit.register(end_at_once)
        if ranks.leads:
            raise KwsError("another process of this run ended, see above; the same command goes on with it") from None
        ranks.outlive()


def end_at_once() -> None:
    """End with code 2, whatever threads of the process group still run: to take them down may abort the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def processes(which: str = "WORLD_SIZE") -> int:
    """How many torchrun started, in all or (LOCAL_WORLD_SIZE) on this machine; 1 where this one was not."""
    started = distributed.is_available() and distributed.is_torchelastic_launched()
    return int(os.environ[which]) if started else 1


def own_device(device: torch.device, here_n: int) -> torch.device:
    """The device of this process among `here_n` on this machine."""
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise KwsError(f"device={device}: allowed under torchrun is auto, cpu or cuda, each process has its own GPU")
    if here_n > torch.cuda.device_count():
        raise KwsError(f"torchrun: {here_n} processes, allowed is one for each of {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def fabric(device: torch.device, precision: str, size: int, here_n: int) -> "Fabric":
    """Lightning Fabric for `size` processes in all, `here_n` on this machine."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    wanted = cast(Literal["32-true", "bf16-mixed"], precision)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # One process places all things itself, on whatever torch finds; Fabric must know which autocast is meant.
    known = device.type if device.type == "cuda" else "cpu"
    if size == 1:
        alone = SingleDeviceStrategy(device=device if device.type == known else torch.device("cpu"))
        return Fabric(accelerator=known, devices=1, strategy=alone, precision=wanted, plugins=LightningEnvironment())
    joined = Fabric(
        accelerator=known,
        devices=here_n,
        num_nodes=size // here_n,
        strategy=DDPStrategy(timeout=PATIENCE),
        precision=wanted,
        plugins=TorchElasticEnvironment(),
    )
    joined.launch()
    return joined


def lost(error: RuntimeError) -> bool:
    """Does the error say that another process is no longer there?"""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


class _Total(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        distributed.all_reduce(total)
        return total


def total(x: Tensor) -> Tensor:
    """The sum over all processes, with gradients: each one's `x` counts in the losses of all."""
    out: Tensor = _Total.apply(x)  # type: ignore[no-untyped-call]
    return out


class SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation (Ioffe & Szegedy, 2015) with the statistics of the whole batch, however it is divided.

    Shape: x [B, C, ...], B of this process, which may differ between them; returns the same.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # any number of axes

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        axes, column = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))
        y = x.float()
        own_n = y.new_full((1,), y.numel() / y.shape[1])
        sums = total(torch.cat([y.sum(axes), own_n]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        y = y - mean.view(column)
        var = total(y.square().sum(axes)) / n
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * (n / (n - 1)), momentum)
        y = y * torch.rsqrt(var + self.eps).view(column)
        if self.affine:
            y = y * self.weight.view(column) + self.bias.view(column)
        return y.to(x.dtype)


def synced(net: nn.Module) -> None:
    """Put such norms in the place of a net's batch norms; weights, state and their names stay."""
    for name, part in list(net.named_children()):
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            made = SyncedNorm(part.num_features, part.eps, part.momentum, part.affine, part.track_running_stats)
            made.weight, made.bias = part.weight, part.bias
            made.running_mean, made.running_var = part.running_mean, part.running_var
            made.num_batches_tracked = part.num_batches_tracked
            made.training = part.training
            setattr(net, name, made)
        else:
            synced(part)


Called = TypeVar("Called", bound=Callable[..., Any])


def compiled(called: Called, device: torch.device) -> Called:
    """The same, compiled by TorchInductor when it is first called: faster steps, after a minute or so of compiling.

    The same machine, compiler and settings make the same weights; other sums than those that are not compiled.

    Args:
        called: a module, or a method of one.
        device: that it runs on; for a CPU the code is C++.

    Raises:
        KwsError: there is nothing to compile with.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise KwsError("compile=true: allowed on a CPU is this where there is a C++ compiler, such as g++")
    return cast(Called, torch.compile(called))
