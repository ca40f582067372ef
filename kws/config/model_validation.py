"""What the settings of models may be: a range for every number, and the rules between them."""

from collections.abc import Mapping

from kws.common.errors import KwsError
from kws.models.settings import BCResNetConfig, CausalBCResNetConfig, ModelConfig

MODEL_RANGES: Mapping[str, tuple[float, float]] = {
    "model.channels": (4, 1024),
    "model.kernel": (2, 31),
    "model.kernels": (1, 63),
    "model.dilations": (1, 64),
    "model.stacks": (1, 16),
    "model.repeats": (1, 16),
    "model.tau": (0.5, 32),
    "model.width_multiplier": (0.25, 32),
    "model.groups": (1, 16),
    "model.dropout": (0, 0.9),
    "model.window": (10, 1000),
    "model.train_every": (1, 100),
    "model.stride": (1, 100),
    "model.smooth_s": (0, 1),
    "model.smooth_k": (0, 100),
}


def check_judged(c: ModelConfig, hop_s: float, early_s: float, late_s: float) -> None:
    """Of the rows in which a keyword must be scored, training judges one at least."""
    row_s = hop_s * c.stride
    rows_n = round(early_s / row_s) + round(late_s / row_s) + 1
    every = getattr(c, "train_every", 1)
    if every > rows_n:
        raise KwsError(
            f"model.train_every={every}: allowed is at most {rows_n}, the rows of optim.early_s and optim.late_s, in "
            "which a keyword must be scored"
        )


def check_model(c: ModelConfig, rows_n: int) -> None:
    """Rules between the settings of a model, and with the rows of a frame (mel bands, or cepstra) that it hears."""
    for key in ("dilations", "kernels"):
        if getattr(c, key, None) == []:
            raise KwsError(f"model.{key}=[]: allowed is a list of at least one number")
    for key in ("kernel", "window"):
        if getattr(c, key, c.stride) < c.stride:
            raise KwsError(f"model.{key}={getattr(c, key)}: allowed is model.stride={c.stride} or more")
    if isinstance(c, CausalBCResNetConfig) and c.stride > 5:
        raise KwsError(f"model.stride={c.stride}: allowed is 1 to 5 for a BC-ResNet that streams")
    if isinstance(c, BCResNetConfig | CausalBCResNetConfig) and rows_n % (8 * c.groups):
        raise KwsError(
            f"features.n_mels={rows_n} (of MFCC n_mfcc): allowed for a BC-ResNet is a multiple of 8 * model.groups = "
            f"{8 * c.groups}"
        )
