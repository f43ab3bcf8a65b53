import numpy as np
import pytest

from lqf.data.textures import TEXTURES, render_texture


@pytest.mark.parametrize("name", TEXTURES)
def test_an_image_has_its_shape_and_a_pattern(name):
    image = render_texture(name, 24, np.random.default_rng(0))
    assert image.shape == (24, 24, 3)
    assert image.dtype == np.uint8
    assert image.std(axis=(0, 1)).max() > 10


@pytest.mark.parametrize("name", TEXTURES)
def test_the_generator_alone_decides_the_image(name):
    first, again, other = (
        render_texture(name, 20, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", TEXTURES)
def test_patterns_stay_between_zero_and_one_and_use_the_range(name):
    line = np.linspace(-2, 2, 60)
    field = TEXTURES[name](*np.meshgrid(line, line), np.random.default_rng(1))
    assert field.shape == (60, 60)
    assert field.min() >= 0
    assert field.max() <= 1
    assert np.ptp(field) > 0.5


@pytest.mark.parametrize("name", ["stripes", "checks", "dots", "zigzag"])
def test_lattice_patterns_repeat_after_two_periods(name):
    # Sampled off the lattice lines, where rounding could decide either way.
    line = (np.arange(40) + 0.37) / 10
    x, y = np.meshgrid(line, line)
    here = TEXTURES[name](x, y, np.random.default_rng(1))
    there = TEXTURES[name](x + 2, y + 2, np.random.default_rng(1))
    assert (here == there).mean() > 0.99
