"""The report as one page: what it says, and that a browser shows it whole."""

from __future__ import annotations

import re
import shutil
from html import unescape
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from browser import CHROMIUM, CONTRAST, Page, browse

from lqf.report.page import WATTS, write_report

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the committed results."""
    output = tmp_path_factory.mktemp("report") / "report.html"
    write_report(ROOT / "results" / "demo", ROOT / "figures" / "demo", output)
    return output


def test_it_stands_alone_and_is_small(page: Path) -> None:
    text = page.read_text("utf-8")

    loaded = re.findall(r"(?:src|href)=\"(?!data:|#)([^\"]+)\"", text)
    linked = re.findall(r"<a href=\"([^\"#]+)\"", text)
    assert [one for one in loaded if one not in linked] == []
    assert [one for one in linked if ":" in one and not one.startswith("https://arxiv.org/")] == []
    assert page.stat().st_size < 15e6


def test_every_picture_has_an_alternative_text_and_ids_are_unique(page: Path) -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.alts: list[str] = []
            self.ids: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found = dict(attrs)
            if tag == "img":
                self.alts.append(found.get("alt") or "")
            if found.get("id"):
                self.ids.append(str(found["id"]))

    reader = Reader()
    reader.feed(page.read_text("utf-8"))

    assert reader.alts
    assert all(len(alt) > 40 for alt in reader.alts)
    assert len(reader.ids) == len(set(reader.ids))


def test_every_claim_stands_on_it_with_its_verdict(page: Path) -> None:
    claims = pd.read_csv(ROOT / "results" / "demo" / "claims.csv")
    text = page.read_text("utf-8")
    for _, claim in claims.iterrows():
        assert re.search(rf'<tr id="{claim["id"]}">.*?<b>{claim["verdict"]}</b>', text, re.DOTALL)


def test_names_can_be_anything(tmp_path: Path) -> None:
    results = shutil.copytree(ROOT / "results" / "demo", tmp_path / "demo")
    claims = pd.read_csv(results / "claims.csv")
    claims.loc[0, "statement"] = '<script>alert("{{ 7 * 7 }}")</script>'
    claims.to_csv(results / "claims.csv", index=False)
    (results / "claims.sha256").unlink()
    figures = shutil.copytree(ROOT / "figures" / "demo", tmp_path / "figures")
    table = figures / "table1.md"
    table.write_text(table.read_text("utf-8").replace("Digits", "<img src=x>"), "utf-8")

    write_report(results, figures, tmp_path / "page.html")

    text = (tmp_path / "page.html").read_text("utf-8")
    assert "&lt;script&gt;alert(" in text
    assert "{{ 7 * 7 }}" in text
    assert "<script>" not in text
    assert "<img src=x>" not in text


def test_what_was_not_drawn_is_named(tmp_path: Path) -> None:
    results = ROOT / "results" / "demo"
    (tmp_path / "figures").mkdir()

    write_report(results, tmp_path / "figures", tmp_path / "page.html")

    assert "Not part of this run: Table 1, Table 2" in (tmp_path / "page.html").read_text("utf-8")
    with pytest.raises(ValueError, match=r"holds no claims\.csv"):
        write_report(tmp_path, tmp_path, tmp_path / "page.html")


def test_executed_notebooks_are_linked_from_where_the_page_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "results" / "demo" / "report.html"
    write_report(ROOT / "results" / "demo", ROOT / "figures" / "demo", page)
    assert "<code>snakemake notebooks --cores 2</code>" in page.read_text("utf-8")

    one = tmp_path / "runs" / "demo" / "notebooks" / "er rata.html"
    one.parent.mkdir(parents=True)
    one.write_text('<h1 id="x">The paper&#39;s errata<a href="#x">¶</a></h1>', "utf-8")
    write_report(ROOT / "results" / "demo", ROOT / "figures" / "demo", page)

    found = re.search(r'<li><a href="(\.\.[^"]+)">([^<]+)</a>', page.read_text("utf-8"))
    assert found is not None
    assert (page.parent / unquote(found[1])).resolve() == one
    assert unescape(found[2]) == "The paper's errata"


def test_energy_is_an_estimate_with_its_formula(page: Path) -> None:
    times = pd.read_csv(ROOT / "benchmarks" / "results" / "demo_times.csv")
    total = int(times.loc[times["part"] == "total", "core_seconds"].item())
    text = " ".join(page.read_text("utf-8").split())

    low, high = (round(total * watts / 3600) for watts in WATTS)
    assert "Energy was not measured. An estimate: " in text
    assert f"{total} core-seconds × 5 to 10 W ÷ 3600 = {low} to {high} Wh" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_it_whole(page: Path, tmp_path: Path) -> None:
    async def look(shown: Page) -> None:
        paints = []
        for _ in range(3):
            await shown.open(page)
            # The entry comes with the paint, which a page that has loaded may still wait for.
            painted = (
                "new Promise((done) => new PerformanceObserver((all) => "
                "all.getEntriesByName('first-contentful-paint').forEach((one) => done(one.startTime))"
                ").observe({type: 'paint', buffered: true}))"
            )
            paints.append(await shown.ask(painted))
        # Another process may take the processor for a while.
        assert min(paints) <= 1000

        await shown.ask("[...document.images].forEach((one) => (one.loading = 'eager'))")
        await shown.ask("Promise.all([...document.images].map((one) => one.decode()))")
        assert await shown.ask("document.images.length") >= 8
        missing = "[...document.images].filter((one) => one.naturalWidth === 0).length"
        assert await shown.ask(missing) == 0
        for width, scheme in product((1280, 360), ("light", "dark")):
            await shown.look(width, scheme)
            assert await shown.ask("document.documentElement.scrollWidth <= innerWidth")
            contrast, text = await shown.ask(CONTRAST)
            assert contrast >= 4.5, text

        await shown.press("Tab", 9)
        assert await shown.ask("document.activeElement.getBoundingClientRect().left >= 0")
        assert await shown.ask("document.activeElement.textContent") == "To the content"
        await shown.press("Enter", 13)
        await shown.ask("document.querySelector('#verdict ~ div summary').focus()")
        await shown.press("Enter", 13)
        assert await shown.ask("document.activeElement.parentElement.open")
        assert await shown.ask("getComputedStyle(document.activeElement).outlineWidth") == "3px"
        assert shown.complaints == []

    browse(tmp_path / "browser", look)
