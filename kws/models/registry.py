"""Keyword models: nets that give equal scores for a clip, a stream and a chunk.

A model maps log-mel frames and a cache to logits and the next cache (`KeywordNet`). A clip is a stream that begins with
an empty cache, so both share one code path. A family that pads in time or averages over its window is a `WindowNet`. An
`InputLayer` may precede the net (`FrontEndNet`), and a second net without one stand beside it (`Ensemble`).
"""

from collections.abc import Mapping
from typing import Any

from kws.common.errors import KwsError
from kws.models import bc_resnet, ds_cnn, matchboxnet, mdtc, tc_resnet  # noqa: F401  their registers the families
from kws.models.base import FAMILIES, KeywordNet, shape_of
from kws.models.ds_tcn import DSTCN
from kws.models.ensemble import Ensemble
from kws.models.frontends import INPUTS, FrontEndNet, InputLayer, input_layer
from kws.models.windowed import WindowNet

__all__ = [
    "DSTCN",
    "FAMILIES",
    "Ensemble",
    "FrontEndNet",
    "InputLayer",
    "KeywordNet",
    "WindowNet",
    "input_layer",
    "make",
]


def make(
    family: str,
    n_mels: int,
    n_keywords: int,
    shape: Mapping[str, Any],
    input: str | None = None,
    input_shape: Mapping[str, Any] | None = None,
) -> KeywordNet:
    """Build a net with fresh weights.

    Args:
        family: one of FAMILIES.
        n_mels: mel bands of the frames.
        n_keywords: score columns.
        shape: settings of the family, by name; missing ones have their defaults.
        input: the input layer, one of `frontends.INPUTS`; None for log-mel frames.
        input_shape: settings of the input layer, by name.

    Raises:
        KwsError: no such family or layer.
    """
    if family not in FAMILIES:
        raise KwsError(
            f"{family}: unknown family of models; must be one of {', '.join(FAMILIES)}, or registered by plugins=[...]"
        )
    settings, net = FAMILIES[family]
    shape = shape_of(settings()) | dict(shape)
    if input is None:
        return net(n_mels, n_keywords, **shape)
    layer = input_layer(input, n_mels, input_shape or {})
    behind = FrontEndNet(layer, net(layer.n_rows, n_keywords, **shape))
    return Ensemble([net(n_mels, n_keywords, **shape), behind]) if INPUTS[input].beside else behind
