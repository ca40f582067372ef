"""The max-pooling loss on cases worked out by hand."""

import pytest
import torch
from torch import Tensor

from kws.loss import max_pooling_loss


def softplus(x: float) -> float:
    return float(torch.nn.functional.softplus(torch.tensor(x)))


def loss_of(rows: list[float] | Tensor, says: float, smooth_n: int = 1) -> float:
    """Of one clip and keyword that lies in rows 4 to 7, to be answered from row 6 to row 9."""
    logits = torch.as_tensor(rows)[None, None]
    loss, _ = max_pooling_loss(
        logits, torch.tensor([[says]]), torch.tensor([4]), torch.tensor([7]), 1, 2, smooth_n
    )  # fmt: skip
    return float(loss)


#       0   1   2   3   4   5   6   7   8   9  10  11
ROWS = [-4.0, -1.0, -3, -3, 5.0, 6.0, 1.0, 2.0, 0.0, 1.5, 7.0, 8.0]


def test_a_clip_with_the_keyword() -> None:
    # Up to row 3 it must be quiet: -1. From row 6 to 9 it must fire: 2. What lies between and after is free.
    assert loss_of(ROWS, 1.0) == pytest.approx(softplus(-1.0) + softplus(-2.0))


def test_a_clip_without_it_is_judged_whole() -> None:
    assert loss_of(ROWS, 0.0) == pytest.approx(softplus(8.0))


@pytest.mark.parametrize(("row", "matters"), [(3, True), (4, False), (5, False), (6, True), (9, True), (10, False)])
def test_where_the_spans_end(row: int, matters: bool) -> None:
    changed = list(ROWS)
    changed[row] = 20.0
    assert (loss_of(changed, 1.0) != loss_of(ROWS, 1.0)) == matters


def test_columns_and_clips_do_not_mix() -> None:
    logits = torch.tensor([[ROWS, [-x for x in ROWS]], [[0.5 * x for x in ROWS], ROWS]])
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    loss, other = max_pooling_loss(logits, target, torch.tensor([4, 0]), torch.tensor([7, 0]), 1, 2)
    # While the first keyword is said, the second must stay quiet.
    want = [[softplus(-1.0) + softplus(-2.0), softplus(4.0)], [softplus(4.0), softplus(8.0)]]
    torch.testing.assert_close(loss, torch.tensor(want))
    torch.testing.assert_close(other, torch.tensor([[-1.0, 4.0], [4.0, 8.0]]))


def test_only_the_highest_rows_learn() -> None:
    logits = torch.tensor(ROWS, requires_grad=True)
    loss, _ = max_pooling_loss(logits[None, None], torch.ones(1, 1), torch.tensor([4]), torch.tensor([7]), 1, 2)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.nonzero().flatten().tolist() == [1, 7]
    assert logits.grad[1] > 0 > logits.grad[7]


def test_the_moving_average_looks_back() -> None:
    rows = torch.full((12,), -6.0)
    rows[7] = 9.0
    # Rows 7 to 9 hold the mean of 9 and two times -6; row 3 and before hold -6.
    assert loss_of(rows, 1.0, smooth_n=3) == pytest.approx(softplus(1.0) + softplus(-6.0))
    assert loss_of(torch.full((12,), 2.5), 0.0, smooth_n=5) == pytest.approx(softplus(2.5))


def test_a_keyword_that_begins_with_the_clip_has_no_quiet_before_it() -> None:
    logits = torch.zeros(1, 1, 12, requires_grad=True)
    loss, _ = max_pooling_loss(logits, torch.ones(1, 1), torch.tensor([0]), torch.tensor([7]), 1, 2)
    assert float(loss.detach()) == pytest.approx(softplus(0.0))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
