"""Training with several processes: torchrun starts them, Lightning Fabric connects them, rank 0 mines and writes.

Each rank computes its own rows of every batch. Gradients, batch norms and priorities of replayed clips are those of the
whole batch, so that all ranks hold the same weights. The number of ranks changes only rounding.
"""

import atexit
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from kws.common.errors import KwsError, one_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # its import takes more than a second, which other commands need not spend

T = TypeVar("T")

MINING_TIMEOUT = timedelta(days=7)  # other ranks wait while rank 0 mines; a process that died is noticed at once
GRACE_S = 10  # rank 0 prints its error within this time; torchrun ends all processes with the first that exits


class MainFailed(Exception):
    """Rank 0 failed and reports the error itself."""


class Distributed:
    """The processes of one training run. Where there are several, all of them construct it at the same time.

    Args:
        fabric: connects them.
        device: of this process.
    """

    def __init__(self, fabric: "Fabric", device: torch.device) -> None:
        self.fabric, self.device = fabric, device
        self.rank, self.size = fabric.global_rank, fabric.world_size
        # gloo: a rank that waits for rank 0 occupies no GPU, and objects travel from memory to memory.
        self._group = distributed.new_group(backend="gloo", timeout=MINING_TIMEOUT) if self.size > 1 else None

    @property
    def is_main(self) -> bool:
        """True on rank 0, which mines, writes files and prints."""
        return self.rank == 0

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0 and return its result on every rank.

        Raises:
            MainFailed: `work` failed on rank 0; raised on all other ranks.
        """
        if self.size == 1:
            return work()
        box: list[Any] = [None]
        try:
            if self.is_main:
                box = [(work(),)]
        finally:  # a failure leaves the box empty
            distributed.broadcast_object_list(box, 0, self._group, torch.device("cpu"))
        if box[0] is None:
            raise MainFailed
        return cast(T, box[0][0])

    def main_first(self, work: Callable[[], T]) -> T:
        """Run `work` on every rank, on rank 0 before the others: it may fill a cache that they read.

        Raises:
            MainFailed: `work` failed on rank 0; raised on all other ranks.
        """
        result: list[T] = []
        self.on_main(lambda: result.append(work()))
        return result[0] if result else work()

    def local_rows(self, n: int) -> Tensor:
        """Rows of a batch of `n` that this rank computes: every `size`-th, so that each rank gets rows of all kinds."""
        return torch.arange(self.rank, n, self.size)

    def all_reduce_rows(self, local: Tensor, n: int) -> Tensor:
        """Collect values of all rows of a batch of `n` on every rank.

        Shape: local [local rows, ...]; returns [n, ...].
        """
        if self.size == 1:
            return local
        rows = local.new_zeros(n, *local.shape[1:])
        rows[self.local_rows(n).to(local.device)] = local  # the other ranks add zeros: the sum is exact
        distributed.all_reduce(rows)
        return rows

    def all_gather(self, local: Sequence[T]) -> list[T]:
        """Concatenate the objects of all ranks, in the order of the ranks."""
        if self.size == 1:
            return list(local)
        box: list[Any] = [None] * self.size
        distributed.all_gather_object(box, list(local), self._group)
        return [one for some in box for one in some]

    def setup(self, net: nn.Module, compile: bool = False) -> nn.Module:
        """Return the module to call in training: it shares gradients, and its batch norms see the whole batch.

        `net` keeps the weights and the names of its state.

        Args:
            net: on the device.
            compile: compile it with `compiled`.
        """
        if self.size > 1:
            synchronize_norms(net)
        return self.fabric.setup_module(compiled(net, self.device) if compile else net, move_to_device=False)

    def backward(self, local_loss: Tensor) -> None:
        """Compute gradients of the sum of `local_loss` over the ranks."""
        self.fabric.backward(local_loss * self.size if self.size > 1 else local_loss)  # ranks share the mean

    def leave(self) -> None:
        """Leave the process group; rank 0 continues alone."""
        if self.size > 1:
            distributed.barrier(self._group)
            distributed.destroy_process_group()


def lacks_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU without instructions for bfloat16, on which `bf16-mixed` is slower than `32-true`.

    False for other devices, and where the version of torch cannot tell.
    """
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return not any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def together(device: torch.device, precision: str) -> Iterator[Distributed]:
    """Connect the processes that torchrun started, or only this one. A failure of one process ends all.

    Args:
        device: where to train. Several processes on GPUs take one GPU each, so `device` must not name one.
        precision: 32-true, or bf16-mixed on a CPU or an NVIDIA GPU: the forward pass in bfloat16, weights in float32.

    Raises:
        KwsError: the device or precision does not exist here.
    """
    if precision != "32-true" and device.type not in ("cpu", "cuda"):
        raise KwsError(f"precision={precision}: must be 32-true with device={device.type}")
    size, local_size = processes(), processes("LOCAL_WORLD_SIZE")
    if size > 1:
        device = own_device(device, local_size)
    ranks = Distributed(fabric(device, precision, size, local_size), device)
    try:
        yield ranks
    except (MainFailed, KwsError, OSError, RuntimeError) as error:
        lost = isinstance(error, distributed.DistError) or "gloo" in str(error)  # another process has ended
        if ranks.size == 1 or (isinstance(error, RuntimeError) and not lost):
            raise
        if ranks.is_main:
            atexit.register(exit_at_once)
            if isinstance(error, RuntimeError):
                raise KwsError("another process of this run ended, see above; the same command resumes it") from None
            raise
        if isinstance(error, KwsError | OSError):
            print(f"kws: process {ranks.rank}: {one_line(error)}", file=sys.stderr)
        else:
            time.sleep(GRACE_S)
        exit_at_once()


def exit_at_once() -> NoReturn:
    """Exit with code 2 without joining the threads of the process group, which may abort the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def processes(variable: str = "WORLD_SIZE") -> int:
    """Number of processes that torchrun started, in all or (LOCAL_WORLD_SIZE) on this machine; 1 without torchrun."""
    started = distributed.is_available() and distributed.is_torchelastic_launched()
    return int(os.environ[variable]) if started else 1


def own_device(device: torch.device, local_size: int) -> torch.device:
    """Device of this process among `local_size` on this machine."""
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise KwsError(f"device={device}: must be auto, cpu or cuda under torchrun, each process has its own GPU")
    if local_size > torch.cuda.device_count():
        raise KwsError(f"torchrun: {local_size} processes; must be at most {torch.cuda.device_count()}, one a GPU")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def fabric(device: torch.device, precision: str, size: int, local_size: int) -> "Fabric":
    """Lightning Fabric for `size` processes, `local_size` of them on this machine."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    wanted = cast(Literal["32-true", "bf16-mixed"], precision)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # A single process moves its tensors itself, to any device of torch. Fabric only has to know the kind of autocast.
    known = device.type if device.type == "cuda" else "cpu"
    if size == 1:
        alone = SingleDeviceStrategy(device=device if device.type == known else torch.device("cpu"))
        return Fabric(accelerator=known, devices=1, strategy=alone, precision=wanted, plugins=LightningEnvironment())
    joined = Fabric(
        accelerator=known,
        devices=local_size,
        num_nodes=size // local_size,
        strategy=DDPStrategy(timeout=MINING_TIMEOUT),
        precision=wanted,
        plugins=TorchElasticEnvironment(),
    )
    joined.launch()
    return joined


class _SumOverRanks(torch.autograd.Function):
    """Sum over all ranks, forward and backward: the local `x` contributes to the losses of all ranks."""

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


class SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation (Ioffe & Szegedy, 2015) with the statistics of the rows of all ranks.

    Shape: x [B, C, ...], where B may differ between ranks; returns the same.
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
        local_n = y.new_full((1,), y.numel() / y.shape[1])
        sums: Tensor = _SumOverRanks.apply(torch.cat([y.sum(axes), local_n]))  # type: ignore[no-untyped-call]
        n = sums[-1].detach()
        mean = sums[:-1] / n
        y = y - mean.view(column)
        var = _SumOverRanks.apply(y.square().sum(axes)) / n  # type: ignore[no-untyped-call]
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


def synchronize_norms(net: nn.Module) -> None:
    """Turn the batch norms of a net into `SyncedNorm`; weights, state and their names stay."""
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.__class__ = SyncedNorm


Called = TypeVar("Called", bound=Callable[..., Any])


def compiled(called: Called, device: torch.device) -> Called:
    """Compile with TorchInductor at the first call: faster steps after about a minute of compiling.

    The same machine, compiler and settings give the same weights. Sums differ from those without compiling.

    Args:
        called: a module, or a method of one.
        device: that it runs on; the code for a CPU is C++.

    Raises:
        KwsError: no C++ compiler is installed.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise KwsError("compile=true: must be false on a CPU without a C++ compiler such as g++")
    return cast(Called, torch.compile(called))
