"""Damaged images of every format that Pillow opens: each is decoded or refused by name.

A file of each format is damaged in one of five ways: bits flipped, a byte or a run of bytes replaced, a
length or an offset set to an extreme, bytes cut out or doubled, the end cut off. What the decoder makes
of it is counted; anything but an image or a refusal would be a traceback in a user's job.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.machine import table
from lqf.data.decode import Undecodable, decode

TITLE = "Damaged images"
ROUNDS = 20_000
SIDE = 32
_EXTREMES = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\x01\0")
# Formats that Pillow writes only by another program, or that are not for pixels.
_NOT_WRITTEN = {"BUFR", "GRIB", "HDF5", "WMF", "PDF"}


def whole_files() -> dict[str, bytes]:
    """A small file of each format that can be made here, some with EXIF or in several kinds."""
    y, x = np.mgrid[:40, :56]
    colour = Image.fromarray(np.stack([3 * x, 5 * y, x + y], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif.update({0x112: 6, 0x10F: "maker", 0x11A: 72.0})
    Image.init()
    files: dict[str, bytes] = {}
    for kind in sorted({*Image.SAVE} & {*Image.OPEN} - _NOT_WRITTEN):
        for mode in ("RGB", "P", "L", "1", "F"):
            try:
                files[kind] = _saved(colour.convert(mode), kind)
                break
            except (OSError, ValueError, KeyError):
                continue
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        if kind in files:
            files[f"{kind}, EXIF"] = _saved(colour, kind, exif=exif)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        files[f"TIFF, {compression}"] = _saved(colour, "TIFF", compression=compression)
    files["PNG, palette"] = _saved(colour.quantize(16), "PNG", transparency=3)
    files["PNG, 16 bit"] = _saved(Image.fromarray((900 * y).astype(np.uint16)), "PNG")
    files["JPEG, CMYK"] = _saved(colour.convert("CMYK"), "JPEG")
    files["GIF, animated"] = _saved(colour, "GIF", save_all=True, append_images=[colour.rotate(9)])
    files["WEBP, lossless"] = _saved(colour, "WEBP", lossless=True)
    return files | _written_by_hand(np.asarray(colour))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _written_by_hand(pixels: np.ndarray) -> dict[str, bytes]:
    """Formats that Pillow reads and does not write, by their public layouts."""
    height, width, _ = pixels.shape
    grey, planes = pixels[..., 0].tobytes(), pixels.transpose(2, 0, 1).tobytes()
    cards = [
        "SIMPLE  = T",
        "BITPIX  = 8",
        "NAXIS   = 2",
        f"NAXIS1  = {width}",
        f"NAXIS2  = {height}",
    ]
    fits = "".join(one.ljust(80) for one in (*cards, "END")).ljust(2880).encode()
    photoshop = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3) + struct.pack(
        ">3I", 0, 0, 0
    )
    sun = struct.pack(">8I", 0x59A66A95, width, height, 24, 3 * width * height, 1, 0, 0)
    flic = struct.pack("<IHHHHHHI", 128 + 6, 0xAF12, 1, width, height, 8, 3, 70).ljust(128, b"\0")
    texts = [f'"{width} 2 2 1",', '"a c #ff0000",', '"b c #00ff00",', f'"{"ab" * (width // 2)}",']
    xpm = "\n".join(["/* XPM */", "static char *x[] = {", *texts, texts[-1].rstrip(","), "};"])
    return {
        "FITS": fits + grey,
        "PSD": photoshop + struct.pack(">H", 0) + planes,
        "SUN": sun + pixels.tobytes(),
        "FLI": flic + struct.pack("<IHH8x", 16, 0xF1FA, 0),
        "XPM": xpm.encode(),
        "XVTHUMB": f"P7 332\n#END_OF_COMMENTS\n{width} {height} 255\n".encode() + grey,
        "GBR": struct.pack(">5I4sI", 32, 2, width, height, 1, b"GIMP", 1) + b"x\0\0\0" + grey,
    }


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one to three places; beginnings, where headers are, more often."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        end = len(content) if rng.random() < 0.5 else min(len(content), 256)
        at = int(rng.integers(0, max(1, end)))
        match rng.integers(6):
            case 0:
                content[at : at + 1] = (
                    bytes([content[at] ^ (1 << rng.integers(8))]) if content else b""
                )
            case 1:
                content[at : at + 1] = rng.bytes(1)
            case 2:
                content[at : at + 8] = rng.bytes(8)
            case 3:
                content[at : at + 4] = _EXTREMES[rng.integers(len(_EXTREMES))]
            case 4:
                length = int(rng.integers(1, 64))
                content[at : at + length] = (
                    content[at : at + length] * 2 if rng.random() < 0.5 else b""
                )
            case _:
                del content[max(1, int(rng.integers(len(content) + 1))) :]
    return bytes(content)


def tally(data: bytes, tries: int, rng: np.random.Generator) -> Counter[str]:
    """Count what becomes of damaged versions of a file."""
    found: Counter[str] = Counter()
    for _ in range(tries):
        try:
            found["ends early" if decode(damaged(data, rng), SIDE).truncated else "decoded"] += 1
        except Undecodable:
            found["refused"] += 1
        except Exception as error:  # noqa: BLE001  (what is looked for)
            found[f"{type(error).__name__}: {error}"[:80]] += 1
    return found


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """A row for each format; `rounds` mutations in all."""
    files = whole_files()
    tries = 8 if small else -(-rounds // len(files))
    rows = []
    for number, (kind, data) in enumerate(files.items()):
        whole = tally_whole(data)
        found = tally(data, tries, np.random.default_rng([0, number]))
        known = {key: found.pop(key, 0) for key in ("decoded", "ends early", "refused")}
        rows.append(
            {"format": kind, "undamaged": whole, "tries": tries, **known, "tracebacks": dict(found)}
        )
    return rows


def tally_whole(data: bytes) -> str:
    """What becomes of the file as it is."""
    try:
        decode(data, SIDE)
    except Undecodable:
        return "refused"
    return "decoded"


def markdown(result: dict[str, Any]) -> str:
    """A table of the formats."""
    columns = ["format", "undamaged", "tries", "decoded", "ends early", "refused"]
    rows = []
    for row in result["rows"]:
        bad = "; ".join(f"{key} × {n}" for key, n in row["tracebacks"].items())
        rows.append([*(row[key] for key in columns), bad or 0])
    lines = [f"# {result['title']}", "", *table([*columns, "tracebacks"], rows)]
    total = sum(row["tries"] for row in result["rows"])
    bad = sum(sum(row["tracebacks"].values()) for row in result["rows"])
    return "\n".join([*lines, "", f"{total:,} damaged files, {bad} tracebacks."]) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """What became of the files of each format."""
    rows = result["rows"]
    figure = Figure(figsize=(6, 0.2 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(rows))
    for key in ("decoded", "ends early", "refused"):
        share = np.array([100 * row[key] / row["tries"] for row in rows])
        axes.barh([row["format"] for row in rows], share, left=left, label=key)
        left += share
    axes.set_xlabel("% of damaged files")
    axes.legend(fontsize="small")
    return figure
