"""Which glyphs, in which fonts, make the classes of each rendered data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lqf.data.catalogue import DEMO
from lqf.data.fonts import COMPUTER_MODERN, DEJAVU, STIX
from lqf.data.glyphs import Variation


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

_GREEK = dict(zip(DEMO["greek"].classes, "γνυεζξημσδπτ", strict=True))
_CYRILLIC = dict(zip(DEMO["cyrillic"].classes, "БДЖИЛЦЧШЩЭЮЯ", strict=True))

# Every diacritic sits on the same vowels, so the vowel says nothing about the class.
_ACCENTS = {
    "grave": "ÀÈÒÙàèòù",
    "acute": "ÁÉÓÚáéóú",
    "circumflex": "ÂÊÔÛâêôû",
    "tilde": "ÃẼÕŨãẽõũ",
    "diaeresis": "ÄËÖÜäëöü",
    "macron": "ĀĒŌŪāēōū",
    "breve": "ĂĔŎŬăĕŏŭ",
    "ogonek": "ĄĘǪŲąęǫų",
}

_FONTS = {
    "DejaVu Sans": "DejaVuSans",
    "DejaVu Sans Mono": "DejaVuSansMono",
    "DejaVu Serif": "DejaVuSerif",
    "STIX": "STIXGeneral",
    "CM Roman": "cmr10",
    "CM Sans": "cmss10",
    "CM Typewriter": "cmtt10",
    "CM Italic": "cmti10",
}
# Letters whose shape differs between these typefaces by more than a pixel or two.
_FONT_LETTERS = "RGagt"

_STYLES = {
    "sans regular": "DejaVuSans",
    "sans bold": "DejaVuSans-Bold",
    "sans oblique": "DejaVuSans-Oblique",
    "sans bold oblique": "DejaVuSans-BoldOblique",
    "serif regular": "DejaVuSerif",
    "serif bold": "DejaVuSerif-Bold",
    "serif oblique": "DejaVuSerif-Italic",
    "serif bold oblique": "DejaVuSerif-BoldItalic",
}
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
