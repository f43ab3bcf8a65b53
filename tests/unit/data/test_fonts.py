import numpy as np
import pytest

from lqf.data.fonts import characters, font_path, glyph_mask


def test_an_unknown_font_is_refused_with_the_shipped_ones():
    with pytest.raises(ValueError, match=r"no font 'Comic': choose one of .*DejaVuSans,"):
        font_path("Comic")


def test_a_missing_glyph_is_refused_instead_of_drawn_as_a_box():
    with pytest.raises(ValueError, match=r"'cmr10' has no glyph for 'Ж' \(U\+0416\)"):
        glyph_mask("Ж", "cmr10", 40)


def test_a_text_without_ink_is_refused():
    with pytest.raises(ValueError, match="leaves no ink"):
        glyph_mask(" ", "DejaVuSans", 40)


def test_characters_tells_fonts_apart():
    assert "Ж" in characters("DejaVuSans")
    assert "Ж" not in characters("cmss10")


@pytest.mark.parametrize("text", ["g", "Å", "f", "Q", "ų"])
@pytest.mark.parametrize("font", ["DejaVuSans", "STIXGeneralItalic", "DejaVuSerif-BoldItalic"])
def test_a_mask_holds_the_whole_glyph_in_a_one_pixel_border(text, font):
    mask = np.asarray(glyph_mask(text, font, 60))
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not border.any()
    inner = [mask[1], mask[-2], mask[:, 1], mask[:, -2]]
    assert all(edge.any() for edge in inner)
