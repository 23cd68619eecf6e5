"""Promise: what the pictures of gradient noise, initial weights and standardised inputs show also holds for other
seeds."""

from __future__ import annotations

import gdcore as gd
import numpy as np
import pytest
from gdcore.analysis.problems import DEPTH, WIDTH, network_noise, relu_signal
from gdcore.chapter.gallery.data import input_descents

SEEDS = pytest.mark.parametrize("seed", [1, 2])


@SEEDS
def test_the_noise_falls_with_the_root_of_the_batch(seed: int) -> None:
    """Slides 15-16: 100 times the batch leaves a tenth of the noise."""
    noise = network_noise(seed)
    assert noise.slope == pytest.approx(-0.5, abs=0.05)
    by_size = dict(zip(noise.batch_sizes, noise.measured, strict=True))
    assert by_size[1] / by_size[100] == pytest.approx(10, rel=0.2)


@SEEDS
def test_he_keeps_the_signal_and_the_smaller_scale_halves_it(seed: int) -> None:
    """Slides 18-20."""
    he, small = relu_signal(gd.HeNormal(), seed), relu_signal(gd.Normal(WIDTH**-0.5), seed)
    assert 1 / 5 < he[-1] < 5
    np.testing.assert_allclose(small, he * 0.5 ** np.arange(DEPTH + 1), rtol=1e-4)  # the same draws


@SEEDS
def test_standardised_inputs_make_a_round_valley(seed: int) -> None:
    """Slide 34."""
    raw, standardised = input_descents(seed)
    assert raw.condition > 40 and standardised.condition < 2
    assert standardised.steps <= 5 and raw.steps >= 20
