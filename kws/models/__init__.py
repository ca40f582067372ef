"""Keyword models: causal nets that score a clip, a stream and a chunk with the same numbers.

A model maps log-mel frames and its cache to logits and the next cache:

    forward(x [B, M, N], cache) -> (logits [B, K, N / stride], cache)

`cache` starts as `initial_cache(B)` and holds all it remembers. `N` is a multiple of `stride`, `receptive_field` counts
the frames that a logit depends on. A clip is a stream that begins with an empty cache: there is no second code path.
"""

from kws.models.ds_tcn import DSTCN

__all__ = ["DSTCN"]
