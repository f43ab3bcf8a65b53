"""Which glyphs, in which fonts, make the classes of each rendered data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lqf.data.catalogue import DEMO
from lqf.data.glyphs import COMPUTER_MODERN, DEJAVU, STIX, Variation


@dataclass(frozen=True)
class Recipe:
    """How the images of one data set are drawn.

    Attributes:
        texts: For each class the texts it draws from, one character each.
        fonts: For each class the fonts it draws from.
        variation: How much two images of the same glyph may differ.
    """

    texts: Mapping[str, str]
    fonts: Mapping[str, tuple[str, ...]]
    variation: Variation


_ALL_FONTS = (*DEJAVU, *STIX, *COMPUTER_MODERN)
_WIDE_FONTS = (*DEJAVU, *STIX)


def _by_class(dataset: str, texts: Iterable[str]) -> dict[str, str]:
    return dict(zip(DEMO[dataset].classes, texts, strict=True))


_GREEK = _by_class("greek", "γνυεζξημσδπτ")
_CYRILLIC = _by_class("cyrillic", "БДЖИЛЦЧШЩЭЮЯ")
# Every diacritic sits on the same vowels, so the vowel says nothing about the class.
_VOWELS = "ÀÈÒÙàèòù ÁÉÓÚáéóú ÂÊÔÛâêôû ÃẼÕŨãẽõũ ÄËÖÜäëöü ĀĒŌŪāēōū ĂĔŎŬăĕŏŭ ĄĘǪŲąęǫų"
_ACCENTS = _by_class("accents", _VOWELS.split())
_FONTS = _by_class(
    "fonts",
    (
        *("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral"),
        *("cmr10", "cmss10", "cmtt10", "cmti10"),
    ),
)
# Letters whose shape differs between these typefaces by more than a pixel or two.
_FONT_LETTERS = "RGagt"
# The order of the first eight of these fonts is that of the classes.
_STYLES = _by_class("styles", DEJAVU[:8])
_STYLE_LETTERS = "ABEFHIKLMNRTXYhkn"

# What tells fine-grained classes apart is a few pixels wide: larger glyphs, less of everything
# else, and no slant, which would turn an upright letter into an oblique one.
_FINE = Variation(
    cover=(0.85, 0.98), rotation=5.0, slant=0.0, contrast=0.4, shading=0.1, noise=0.04
)

# Drawn as clearly as the source task, small Greek letters cost a head on frozen features only 2 %
# error at 16 images a class, too little to tell methods apart by.
_WORN = Variation(cover=(0.45, 0.75), rotation=25.0, slant=0.3, contrast=0.25, noise=0.12)


def _same(texts: Mapping[str, str], fonts: tuple[str, ...], variation: Variation) -> Recipe:
    return Recipe(texts, dict.fromkeys(texts, fonts), variation)


def _typefaces(fonts: Mapping[str, str], letters: str, variation: Variation) -> Recipe:
    return Recipe(
        dict.fromkeys(fonts, letters), {name: (font,) for name, font in fonts.items()}, variation
    )


RECIPES: dict[str, Recipe] = {
    "letters": _same({c: c for c in DEMO["letters"].classes}, _ALL_FONTS, Variation()),
    "greek": _same(_GREEK, _WIDE_FONTS, _WORN),
    "cyrillic": _same(_CYRILLIC, _WIDE_FONTS, Variation()),
    "fonts": _typefaces(_FONTS, _FONT_LETTERS, _FINE),
    "accents": _same(_ACCENTS, ("DejaVuSans", "DejaVuSerif", "DejaVuSans-Bold"), _FINE),
    "styles": _typefaces(_STYLES, _STYLE_LETTERS, _FINE),
}
