import pytest
from matplotlib.ft2font import FT2Font

from lqf.data.catalogue import DEMO
from lqf.data.glyphs import font_path
from lqf.data.recipes import RECIPES
from lqf.data.textures import TEXTURES


def test_every_data_set_has_exactly_one_way_of_being_made():
    assert {*RECIPES, "digits", "textures"} == set(DEMO)
    assert tuple(TEXTURES) == DEMO["textures"].classes


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_cover_the_classes_of_the_catalogue(name):
    recipe = RECIPES[name]
    assert set(recipe.texts) == set(recipe.fonts) == set(DEMO[name].classes)
    assert all(recipe.texts.values())
    assert all(recipe.fonts.values())


@pytest.mark.parametrize("name", RECIPES)
def test_every_glyph_exists_in_every_font_it_may_be_set_in(name):
    recipe = RECIPES[name]
    drawn = {
        font: set(map(chr, FT2Font(str(font_path(font))).get_charmap()))
        for fonts in recipe.fonts.values()
        for font in fonts
    }
    missing = [
        (text, font)
        for key, texts in recipe.texts.items()
        for font in recipe.fonts[key]
        for text in texts
        if text not in drawn[font]
    ]
    assert missing == []


def test_classes_never_share_a_glyph_in_a_font():
    for name, recipe in RECIPES.items():
        seen: dict[tuple[str, str], str] = {}
        for key, texts in recipe.texts.items():
            for glyph in [(text, font) for text in texts for font in recipe.fonts[key]]:
                assert seen.setdefault(glyph, key) == key, (name, glyph)


def test_letters_say_nothing_about_the_class_of_fine_grained_fonts_and_styles():
    for name in ("fonts", "styles"):
        assert len(set(RECIPES[name].texts.values())) == 1


def test_accents_all_sit_on_the_same_vowels():
    import unicodedata

    bases = {
        key: sorted(unicodedata.normalize("NFD", text)[0] for text in texts)
        for key, texts in RECIPES["accents"].texts.items()
    }
    assert len({tuple(vowels) for vowels in bases.values()}) == 1
    marks = {
        key: {unicodedata.normalize("NFD", text)[1:] for text in texts}
        for key, texts in RECIPES["accents"].texts.items()
    }
    assert all(len(mark) == 1 for mark in marks.values())
    assert len(set.union(*marks.values())) == len(marks)
