import io
import struct

import numpy as np
import pytest
from benchmarks import mutations
from PIL import Image

from lqf.data.decode import Undecodable, decode

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 40), (20, 40, 200)


def _file(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _bands(width=90, height=60):
    """Red, green and blue thirds from left to right."""
    image = Image.new("RGB", (width, height), GREEN)
    image.paste(RED, (0, 0, width // 3, height))
    image.paste(BLUE, (2 * width // 3, 0, width, height))
    return image


def _near(pixel, colour, tolerance=6):
    return np.abs(np.asarray(pixel, float) - np.asarray(colour, float)).max() <= tolerance


def test_the_shorter_side_is_resized_and_the_middle_cut_out():
    pixels = decode(_file(_bands(300, 100)), 20).pixels
    assert pixels.shape == (20, 20, 3)
    assert pixels.dtype == np.uint8
    assert _near(pixels.reshape(-1, 3).mean(0), GREEN, 2)
    upright = decode(_file(_bands(90, 270)), 30).pixels
    assert _near(upright[15, 4], RED)
    assert _near(upright[15, 25], BLUE)


@pytest.mark.parametrize("size", [(640, 320), (2000, 1000), (96, 288), (20, 20), (8, 8)])
def test_it_is_what_pillow_alone_makes(size):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    data = _file(image, "JPEG", quality=95)
    reference = Image.open(io.BytesIO(data)).convert("RGB")
    scale = 64 / min(size)
    width, height = round(size[0] * scale), round(size[1] * scale)
    resized = reference.resize((width, height), Image.Resampling.BILINEAR)
    x, y = (width - 64) // 2, (height - 64) // 2
    wanted = np.asarray(resized.crop((x, y, x + 64, y + 64)), float)
    assert np.abs(decode(data, 64).pixels - wanted).mean() < 1.0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_is_turned_upright(orientation):
    upright = _bands(90, 90)
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(_file(stored, "JPEG", quality=95, exif=exif), 30).pixels
    assert _near(pixels[15, 4], RED, 12)
    assert _near(pixels[15, 25], BLUE, 12)


def _kinds():
    image = _bands()
    clear = image.convert("RGBA")
    clear.putalpha(255)
    yield "grey", _file(image.convert("L"), "JPEG"), None
    yield "cmyk", _file(image.convert("CMYK"), "JPEG", quality=95), 20
    yield "palette", _file(image.quantize(8)), 6
    yield "rgba", _file(clear), 6
    yield "grey with alpha", _file(clear.convert("LA")), None
    yield "gif under any name", _file(image.quantize(8), "GIF"), 6
    yield "bitmap", _file(image.convert("1")), -1
    yield "16 bit", _file(Image.fromarray(np.full((60, 90), 40_000, np.uint16))), -1
    yield "tiff", _file(image, "TIFF"), 6
    yield "webp", _file(image, "WEBP", lossless=True), 6


@pytest.mark.parametrize(("kind", "data", "tolerance"), list(_kinds()), ids=lambda v: str(v)[:12])
def test_every_kind_of_file_becomes_rgb(kind, data, tolerance):
    pixels = decode(data, 30).pixels
    assert pixels.shape == (30, 30, 3)
    if tolerance is None:
        luma = np.dot(GREEN, [0.299, 0.587, 0.114])
        assert _near(pixels[15, 15], [luma] * 3)
    elif tolerance > 0:
        assert _near(pixels[15, 15], GREEN, tolerance)


def test_sixteen_bits_keep_their_brightness():
    data = _file(Image.fromarray(np.full((20, 20), 40_000, np.uint16)))
    assert np.all(decode(data, 16).pixels == round(40_000 / 65_535 * 255))


def test_what_is_transparent_becomes_white():
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert np.all(decode(_file(image), 16).pixels == 255)
    palette = Image.new("P", (20, 20), 0)
    assert np.all(decode(_file(palette, transparency=0), 16).pixels == 255)


def test_of_an_animation_the_first_image_is_taken():
    first, second = (Image.new("RGB", (20, 20), colour).quantize(4) for colour in (RED, BLUE))
    data = _file(first, "GIF", save_all=True, append_images=[second])
    assert _near(decode(data, 16).pixels[8, 8], RED)


@pytest.mark.parametrize("size", [(90, 80), (900, 800)])
def test_rows_are_cut_off_the_bottom_in_pixels_of_the_file(size):
    width, height = size
    image = Image.new("RGB", size, GREEN)
    image.paste((0, 0, 0), (0, height - 20, width, height))
    data = _file(image, "JPEG", quality=95)
    assert decode(data, 40).pixels[-1, 20, 1] < 40
    assert decode(data, 40, cut_bottom=20).pixels[-1, 20, 1] > 150


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_that_ends_early_is_used_and_reported(kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (80, 80, 3), dtype=np.uint8))
    data = _file(image, kind)
    whole, short = decode(data, 40), decode(data[: len(data) * 3 // 4], 40)
    assert not whole.truncated
    assert short.truncated
    assert np.abs(whole.pixels[:20].astype(int) - short.pixels[:20]).mean() < 2
    assert not decode(data, 40).truncated


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "it is HEIC, .* save it as JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS are not opened"),
        (b"", "the file is empty"),
        (b"<html>", "not an image"),
        (b"\xff\xd8", "not an image"),
    ],
)
def test_what_is_no_image_is_refused(data, reason):
    with pytest.raises(Undecodable, match=reason):
        decode(data, 16)


def test_a_bomb_is_refused():
    image = Image.new("1", (20_000, 20_000))
    with pytest.raises(Undecodable, match="too large"):
        decode(_file(image), 16)


def _exif(*entries):
    """EXIF with entries of at most four bytes (tag, type, value), or of a fraction of eight."""
    extra, table = b"", b""
    for tag, kind, value in entries:
        if len(value) > 4:
            place = 8 + 2 + 12 * len(entries) + 4 + len(extra)
            value, extra = struct.pack("<L", place), extra + value
        table += struct.pack("<HHL", tag, kind, 1) + value.ljust(4, b"\0")
    head = b"Exif\0\0II" + struct.pack("<HLH", 42, 8, len(entries))
    return head + table + bytes(4) + extra


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (_exif((0x112, 3, b"\x06\0"), (0x11A, 10, struct.pack("<ll", -1, 0))), True),
        (b"Exif\0\0no exif at all", False),
    ],
)
def test_damaged_metadata_says_nothing_about_the_pixels(kind, exif, turned):
    pixels = decode(_file(_bands(90, 90), kind, exif=exif), 30).pixels
    assert _near(pixels[4, 15] if turned else pixels[15, 4], RED, 12)


def test_damage_in_any_format_is_decoded_or_refused():
    rows = mutations.measure(small=True)
    assert len(rows) > 30
    assert [row["format"] for row in rows if row["undamaged"] == "refused"] == ["EPS"]
    assert [row for row in rows if row["tracebacks"]] == []
