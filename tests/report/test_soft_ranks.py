import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr

import corrloss
from corrloss.report.soft_ranks import STRENGTHS, correlations, soft_rank


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 6, 60)
    return scores, np.clip(0.5 + 0.5 * scores + rng.normal(0, 0.1, 60), 0, 1)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_soft_ranks_are_those_of_the_loss(pair, strength):
    expected = corrloss.soft_rank(torch.from_numpy(pair[0]), strength)
    assert soft_rank(pair[0], strength) == pytest.approx(expected.numpy(), abs=1e-6)


def test_the_extremes_are_a_shift_and_the_ordinary_ranks(pair):
    shift = soft_rank(pair[0], 1.0) - pair[0]
    assert shift == pytest.approx(np.full(60, shift[0]))
    assert soft_rank(pair[0], 1e-9) == pytest.approx(rankdata(pair[0]))


def test_spearman_as_released_is_pearson_and_tends_to_spearman(pair):
    found = correlations(*pair)
    assert found["strength 1"] == pytest.approx(found["Pearson"], abs=1e-12)
    assert found["Pearson"] == pytest.approx(pearsonr(*pair).statistic)
    assert found["ranks"] == pytest.approx(spearmanr(*pair).statistic)
    assert abs(found["strength 0.001"] - found["ranks"]) < abs(found["strength 0.1"] - found["ranks"])
