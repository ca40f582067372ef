"""Operations on tensors that TorchScript and torch.export compile alike."""

import torch
from torch import Tensor


def exporting() -> bool:
    """Whether torch.export traces a graph now, which must hold for any number of frames."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return False
    return torch.compiler.is_exporting()


def windows(x: Tensor, kernel: int, dilation: int = 1, stride: int = 1) -> Tensor:
    """Frames that each output of a convolution reads. Shape: x [..., L, C], returns [..., N, kernel, C]."""
    span = (kernel - 1) * dilation + 1
    if exporting():  # one node of ONNX where `unfold` is ten; equal rows of numbers are computed once
        first = torch.arange((x.shape[-2] - span) // stride + 1)[:, None] * stride
        found = first + dilation * torch.arange(kernel)
        rows: Tensor = (
            torch.nn.functional.embedding(found, x)
            if x.dim() == 2
            else x.index_select(-2, found.flatten()).unflatten(-2, (-1, kernel))
        )
        return rows
    all_of_span = x.unfold(-2, span, stride)
    return (all_of_span if dilation == 1 else all_of_span[..., ::dilation]).transpose(-2, -1)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer. Shape: x [..., C_in], weight [C_in, C_out], bias [C_out]; returns [..., C_out]."""
    return torch.addmm(bias, x, weight) if x.dim() == 2 else torch.matmul(x, weight) + bias


def last(x: Tensor, n: int) -> Tensor:
    """The last n frames. Shape: x [..., L, C], returns [..., n, C]."""
    return x.narrow(-2, x.shape[-2] - n, n)
