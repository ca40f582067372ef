"""The max-pooling loss on cases worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kws.training.loss import cross_entropy, max_pooling_loss, plain_loss


def softplus(x: float) -> float:
    return float(torch.nn.functional.softplus(torch.tensor(float(x))))


def loss_of(rows: list[float] | Tensor, says: float, smooth_n: int = 1) -> float:
    """Of one clip and keyword that lies in rows 4 to 7, to be answered from row 6 to row 9."""
    logits = torch.as_tensor(rows)[None, None]
    loss, *_ = max_pooling_loss(
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
    loss, other, _ = max_pooling_loss(logits, target, torch.tensor([4, 0]), torch.tensor([7, 0]), 1, 2)
    # While the first keyword is said, the second must stay quiet.
    want = [[softplus(-1.0) + softplus(-2.0), softplus(4.0)], [softplus(4.0), softplus(8.0)]]
    torch.testing.assert_close(loss, torch.tensor(want))
    torch.testing.assert_close(other, torch.tensor([[-1.0, 4.0], [4.0, 8.0]]))


def test_a_keyword_that_a_longer_one_contains_is_judged_before_it_alone() -> None:
    # The longer one lies in rows 4 to 7. A trigger of the shorter in it is neither right nor wrong.
    assert loss_of(ROWS, -1.0) == pytest.approx(softplus(-1.0))
    logits = torch.tensor(ROWS)[None, None].clone().requires_grad_()
    how = torch.tensor([4]), torch.tensor([7]), 1, 2, 1, 0, 0.5, 0.1
    loss, _, gradient = max_pooling_loss(logits, torch.tensor([[-1.0]]), *how)
    (slopes,) = torch.autograd.grad(loss.sum(), logits)
    assert slopes[0, 0].nonzero().flatten().tolist() == [1], "the highest row before the keyword"
    assert gradient.item() == pytest.approx(slopes.abs().sum().item())


def test_only_the_highest_rows_learn() -> None:
    logits = torch.tensor(ROWS, requires_grad=True)
    loss, *_ = max_pooling_loss(logits[None, None], torch.ones(1, 1), torch.tensor([4]), torch.tensor([7]), 1, 2)
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
    loss, *_ = max_pooling_loss(logits, torch.ones(1, 1), torch.tensor([0]), torch.tensor([7]), 1, 2)
    assert float(loss.detach()) == pytest.approx(softplus(0.0))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def objective(rows: list[float], says: float, **how: float) -> float:
    loss, *_ = max_pooling_loss(
        torch.tensor(rows)[None, None], torch.tensor([[says]]), torch.tensor([4]), torch.tensor([7]), 1, 2, **how
    )  # fmt: skip
    return float(loss)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_focal_by_hand():
    # At a probability of 3/4 for the right answer, gamma 2: (1/4) ** 2 * ln(4/3).
    assert float(cross_entropy(torch.tensor(-math.log(3)), 2.0)) == pytest.approx(math.log(4 / 3) / 16, rel=1e-6)
    # In a clip: quiet before the keyword at -1, the keyword at 2.
    want = sigmoid(-1) ** 2 * softplus(-1) + sigmoid(-2) ** 2 * softplus(-2)
    assert objective(ROWS, 1.0, focal_gamma=2.0) == pytest.approx(want, rel=1e-6)
    assert objective(ROWS, 0.0, focal_gamma=0.5) == pytest.approx(sigmoid(8) ** 0.5 * softplus(8), rel=1e-6)


def test_smoothing_by_hand():
    want = 0.95 * softplus(-1) + 0.05 * softplus(1) + 0.95 * softplus(-2) + 0.05 * softplus(2)
    assert objective(ROWS, 1.0, label_smoothing=0.1) == pytest.approx(want, rel=1e-6)
    assert objective(ROWS, 0.0, label_smoothing=0.1) == pytest.approx(0.95 * softplus(8) + 0.05 * softplus(-8))


LOGITS = st.floats(-100, 100, width=32)


@given(st.lists(LOGITS, min_size=1, max_size=20), st.floats(0, 1))
def test_smoothing_is_that_of_cross_entropy(wrong, smoothing):
    """Torch's own, over the two answers."""
    z = torch.tensor(wrong, dtype=torch.float64)
    two = torch.stack([torch.zeros_like(z), z], 1)  # the right answer is the first
    want = torch.nn.functional.cross_entropy(
        two, torch.zeros(len(z), dtype=torch.long), reduction="none", label_smoothing=smoothing
    )
    torch.testing.assert_close(cross_entropy(z, 0.0, smoothing), want)


@given(st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=20))
def test_plain_is_plain_to_the_bit(wrong):
    grads = []
    for of in (torch.nn.functional.softplus, cross_entropy, lambda z: cross_entropy(z, 0.0, 0.0)):
        z = torch.tensor(wrong, requires_grad=True)
        loss = of(z)
        loss.sum().backward()
        grads.append((loss.detach(), z.grad))
    assert all(torch.equal(a, b) for one in grads for a, b in zip(one, grads[0], strict=True))


def slope(wrong: float, *how: float) -> float:
    z = torch.tensor(wrong, dtype=torch.float64, requires_grad=True)
    cross_entropy(z, *how).backward()
    assert z.grad is not None
    return float(z.grad)


@given(st.floats(-25, 25), st.floats(0.1, 5))
def test_focal_never_costs_more_and_easy_rows_less_and_less(wrong, gamma):
    z = torch.tensor(wrong, dtype=torch.float64)
    ratio = float(cross_entropy(z, gamma) / cross_entropy(z))
    assert ratio == pytest.approx(sigmoid(wrong) ** gamma)
    assert ratio <= 1
    assert float(cross_entropy(z + 0.1, gamma)) > float(cross_entropy(z, gamma)), "worse still costs more"


def test_focal_hardly_learns_from_easy_rows():
    ratios = [slope(z, 2.0) / slope(z) for z in (-8.0, -4.0, -2.0, -1.0)]
    assert ratios == sorted(ratios)
    assert ratios[0] < 1e-5
    assert slope(8.0, 2.0) == pytest.approx(slope(8.0), rel=0.02), "rows that are quite wrong count as before"


@given(LOGITS, st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]), st.sampled_from([0.0, 0.02, 0.1, 0.5]))
def test_losses_and_gradients_are_finite(wrong, gamma, smoothing):
    for z in (wrong, -1e38, 1e38):
        one = torch.tensor(z, requires_grad=True)
        loss = cross_entropy(one, gamma, smoothing)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(one.grad)
        assert float(loss.detach()) >= 0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_a_smoothed_row_rests_where_it_is_wanted(gamma):
    """At a probability of the wrong answer of half the smoothing, on both sides of which it costs more."""
    rest = math.log(0.05 / 0.95)
    assert slope(rest - 0.5, gamma, 0.1) < 0 < slope(rest + 0.5, gamma, 0.1)
    costs = [float(cross_entropy(torch.tensor(rest + by, dtype=torch.float64), gamma, 0.1)) for by in (-0.1, 0.0, 0.1)]
    assert min(costs) == costs[1]


def test_a_smoothed_clip_has_no_cost_where_nothing_is_to_be_quiet():
    loss, *_ = max_pooling_loss(
        torch.zeros(1, 1, 12), torch.ones(1, 1), torch.tensor([0]), torch.tensor([7]), 1, 2, label_smoothing=0.1
    )
    assert float(loss) == pytest.approx(softplus(0.0)), "the keyword's own, half sure of either answer"


@given(st.lists(LOGITS, min_size=2, max_size=20))
def test_the_plain_loss_rises_with_the_score_where_a_smoothed_loss_does_not(found):
    other = torch.tensor(sorted(found))
    assert (plain_loss(other).diff() >= 0).all()
    torch.testing.assert_close(plain_loss(other), cross_entropy(other.clamp_min(-30.0)), rtol=0, atol=0)


def test_without_an_objective_of_its_own_the_plain_loss_is_the_loss_to_the_bit():
    logits = 5 * torch.randn(6, 2, 12, generator=torch.Generator().manual_seed(0))
    loss, other, _ = max_pooling_loss(logits, torch.zeros(6, 2), torch.zeros(6).long(), torch.zeros(6).long(), 1, 2)
    assert torch.equal(loss, plain_loss(other))


@pytest.mark.parametrize(("gamma", "smoothing"), [(0.0, 0.0), (2.0, 0.0), (1.5, 0.1)])
def test_the_gradient_of_a_clip_is_that_of_its_logits(gamma, smoothing):
    rng = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(6, 2, 20, generator=rng)).requires_grad_()
    target = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 0], [0, 0], [0, 0]])
    start, end = torch.tensor([4, 0, 8, 0, 0, 0]), torch.tensor([9, 7, 19, 0, 0, 0])
    loss, _, gradient = max_pooling_loss(logits, target, start, end, 1, 2, 4, 0, gamma, smoothing)
    (expected,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, expected.abs().sum(2))
    assert gradient.min() > 0
