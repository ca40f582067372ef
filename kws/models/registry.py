"""Keyword models: causal nets that score a clip, a stream and a chunk with the same numbers.

A model maps log-mel frames and its cache to logits and the next cache (`KeywordNet`). A clip is a stream that begins
with an empty cache: there is no second code path. A family that pads in time or
averages over its window is a `WindowNet`. An `InputLayer` may stand between the frames and the net (`Fronted`).
"""

from collections.abc import Mapping
from typing import Any

from kws.common.errors import KwsError
from kws.models import bc_resnet, ds_cnn, matchboxnet, mdtc, tc_resnet  # noqa: F401  their families register here
from kws.models.base import FAMILIES, KeywordNet
from kws.models.ds_tcn import DSTCN
from kws.models.frontends import Fronted, InputLayer, input_layer
from kws.models.windowed import WindowNet

__all__ = ["DSTCN", "FAMILIES", "Fronted", "InputLayer", "KeywordNet", "WindowNet", "input_layer", "make"]


def make(
    family: str,
    n_mels: int,
    n_keywords: int,
    shape: Mapping[str, Any],
    input: str | None = None,
    input_shape: Mapping[str, Any] | None = None,
) -> KeywordNet:
    """A net of a family, its weights fresh.

    Args:
        family: one of FAMILIES.
        n_mels: mel bands of the frames.
        n_keywords: score columns.
        shape: what else the family takes, by name.
        input: the layer between frames and net, see `inputs`; None: there is none.
        input_shape: what that takes, by name.

    Raises:
        KwsError: no such family or layer.
    """
    if family not in FAMILIES:
        raise KwsError(
            f"{family}: unknown family of models; must be one of {', '.join(FAMILIES)}, or registered by plugins=[...]"
        )
    net = FAMILIES[family].net
    if input is None:
        return net(n_mels, n_keywords, **shape)
    layer = input_layer(input, n_mels, input_shape or {})
    return Fronted(layer, net(layer.n_rows, n_keywords, **shape))
