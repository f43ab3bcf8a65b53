import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lqf.data.glyphs import Variation, _place, draw_colours, draw_shading, glyph_mask, render_glyph

STILL = Variation((0.7, 0.7), rotation=0, slant=0, contrast=0.3, shading=0, noise=0)


def _rng(seed):
    return np.random.default_rng(seed)


def test_shape_and_type_follow_the_size():
    image = render_glyph("A", "DejaVuSans", 31, Variation(), _rng(0))
    assert image.shape == (31, 31, 3)
    assert image.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(20, 80),
    height=st.integers(20, 80),
    cover=st.floats(0.3, 1.0),
    rotation=st.floats(0, 180),
    slant=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_nothing_is_ever_cut(width, height, cover, rotation, slant, seed):
    """A solid block keeps the area that its map gives it, so nothing falls over the edge."""
    size = 120
    block = Image.new("L", (width, height), 255)
    inside = _place(block, size, Variation((cover, cover), rotation, slant), _rng(seed))

    # The same draws, the same map: its determinant is the area of a unit square.
    rng = _rng(seed)
    angle = np.deg2rad(rng.uniform(-rotation, rotation))
    shear = rng.uniform(-slant, slant)
    scale = cover * size / max(width, height)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = scale * np.array([[cos, shear * cos - sin], [sin, shear * sin + cos]])
    reach = np.abs(matrix) @ (width, height) / 2
    shrink = min(1.0, size / 2 / reach.max())
    area = abs(np.linalg.det(shrink * matrix)) * width * height
    # An edge is placed to half a pixel of the canvas, a sixth of a pixel of the image.
    edges = shrink * 2 * (np.linalg.norm(matrix, axis=0) @ (width, height))
    assert inside.sum() == pytest.approx(area, abs=edges / 6)


def test_without_variation_cover_is_the_share_of_the_longer_side():
    image = _place(glyph_mask("I", "DejaVuSans", 120), 40, STILL, _rng(1))
    rows = np.flatnonzero(image.max(axis=1) > 0.5)
    assert rows[-1] - rows[0] + 1 == pytest.approx(0.7 * 40, abs=2)


def test_without_noise_and_shading_only_blends_of_two_colours_occur():
    image = render_glyph("L", "DejaVuSans", 24, STILL, _rng(2)).astype(float)
    pixels = np.unique(image.reshape(-1, 3), axis=0)
    centred = pixels - pixels.mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False)
    assert spread[1] < 0.02 * spread[0], "colours must lie on one line"


@pytest.mark.parametrize("contrast", [0.1, 0.5])
def test_colours_keep_their_distance_in_luminance(contrast):
    rng = _rng(0)
    for _ in range(50):
        one, two = draw_colours(contrast, rng)
        assert abs((one - two) @ [0.299, 0.587, 0.114]) >= contrast


def test_shading_is_centred_and_bounded():
    rng = _rng(0)
    for _ in range(20):
        shade = draw_shading(24, 0.2, rng)
        assert abs(shade.mean()) < 1e-12
        # A diagonal ramp rises by at most sqrt(2) times the strength from corner to corner.
        assert np.ptp(shade) <= 0.2 * np.sqrt(2) + 1e-12


@pytest.mark.parametrize("text", ["g", "Å", "f", "Q", "ų"])
@pytest.mark.parametrize("font", ["DejaVuSans", "STIXGeneralItalic", "DejaVuSerif-BoldItalic"])
def test_a_mask_holds_the_whole_glyph_in_a_one_pixel_border(text, font):
    mask = np.asarray(glyph_mask(text, font, 60))
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not border.any()
    inner = [mask[1], mask[-2], mask[:, 1], mask[:, -2]]
    assert all(edge.any() for edge in inner)
