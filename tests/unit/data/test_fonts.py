import numpy as np
import pytest

from lqf.data.glyphs import glyph_mask


@pytest.mark.parametrize("text", ["g", "Å", "f", "Q", "ų"])
@pytest.mark.parametrize("font", ["DejaVuSans", "STIXGeneralItalic", "DejaVuSerif-BoldItalic"])
def test_a_mask_holds_the_whole_glyph_in_a_one_pixel_border(text, font):
    mask = np.asarray(glyph_mask(text, font, 60))
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not border.any()
    inner = [mask[1], mask[-2], mask[:, 1], mask[:, -2]]
    assert all(edge.any() for edge in inner)
