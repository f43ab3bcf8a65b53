"""The sub-commands on a folder of small pictures, through the command line."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import photographs
import pytest
import torch
from browser import CHROMIUM, CONTRAST, Page, browse

from lqf.app.cli import register
from lqf.app.model import PhotoModel
from lqf.cli import _parser, main


def test_fit_says_how_well_it_went(run, photos, network, tmp_path) -> None:
    said = run("fit", photos, "-o", tmp_path / "m.lqf", *network, "40", "--train", "head")

    assert said["images"] == 18
    assert said["classes"] == 3
    assert [line.split(":")[0] for line in said["tried_sizes"]] == ["32 pixels", "40 pixels"]
    assert said["leave_one_out_error_percent"] <= 100
    assert "relative residual" in said["certificate"]


def test_predict_gives_probabilities_and_novelty(run, fitted, photos) -> None:
    rows = run("predict", fitted, photos / "green")

    assert len(rows) == 6
    for row in rows:
        chances = [row[f"p({name})"] for name in photographs.COLOURS]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == pytest.approx(max(chances))
        assert row["novelty"] > 0


def test_predict_writes_the_csv_it_prints(fitted, photos, tmp_path, capsys) -> None:
    file = next((photos / "green").iterdir())
    assert main(["predict", str(fitted), str(file)]) == 0
    printed = capsys.readouterr().out
    assert main(["predict", str(fitted), str(file), "-o", str(tmp_path / "p.csv")]) == 0

    assert printed.splitlines()[0].startswith("file,prediction,probability,novelty,p(")
    assert pd.read_csv(tmp_path / "p.csv").columns[0] == "file"


def test_evaluate_tells_images_that_were_trained_on(run, fitted, photos) -> None:
    said = run("evaluate", fitted, photos)
    assert said["images"] == said["seen_in_training"] == 18
    assert 0 <= said["error_percent"] <= 100


def test_explain_shows_images_for_and_against(run, fitted, photos, tmp_path) -> None:
    image = photos / "green" / "0.png"
    said = run("explain", fitted, image, "-o", tmp_path / "why.html", "--number", 3)

    assert said["for"][0].startswith("green/0.png")  # it is in the training set itself
    assert 1 <= len(said["for"]) <= 3
    page = (tmp_path / "why.html").read_text("utf-8")
    assert "data:image/jpeg;base64," in page
    assert "<b>red" not in page


def test_forget_leaves_a_receipt_and_agrees_with_fitting_anew(run, fitted, tmp_path) -> None:
    before = PhotoModel.load(fitted)
    said = run("forget", fitted, "--files", "green/3.png", "green/1.png", "-o", tmp_path / "w.lqf")

    after = PhotoModel.load(tmp_path / "w.lqf")
    receipt = json.loads(Path(said["receipt"]).read_text("utf-8"))
    assert [one["file"] for one in receipt["forgotten"]] == ["green/1.png", "green/3.png"]
    gone = {one["sha256"] for one in receipt["forgotten"]}
    assert gone <= set(before.photos.hashes)
    assert not gone & set(after.photos.hashes)
    assert len(after.photos) == len(after.photos.pixels) == 16
    digest = hashlib.sha256((tmp_path / "w.lqf").read_bytes()).hexdigest()
    assert receipt["model_after"]["sha256"] == digest
    assert receipt["residual"]["met"]
    assert receipt["against_fitting_anew"] < 0.05


def test_extend_adds_what_is_new(run, fitted, photos, tmp_path) -> None:
    more = photographs.write_folder(tmp_path / "more", 1, start=50)
    shutil.copy(photos / "green" / "0.png", more / "green" / "known.png")

    said = run("extend", fitted, more, "-o", tmp_path / "more.lqf")

    assert (said["added"], said["known_already"], said["images"]) == (3, 1, 21)
    assert main(["extend", str(tmp_path / "more.lqf"), str(more)]) == 1


def test_audit_finds_planted_errors_duplicates_and_leaks(run, network, tmp_path) -> None:
    folder = tmp_path / "photos"
    photographs.write_folder(folder / "train", 6)
    photographs.write_folder(folder / "test", 2, start=60)
    blue = 'blue "sea"'
    shutil.move(folder / "train" / blue / "5.png", folder / "train" / "green" / "wrong.png")
    shutil.copy(folder / "train" / "green" / "2.png", folder / "test" / "green" / "leak.png")
    (folder / "train" / "green" / "broken\u202e.jpg").write_bytes(b"\xff\xd8\xff")

    said = run("audit", folder, "-o", tmp_path / "out", *network, "--train", "head")

    rows = pd.read_csv(tmp_path / "out" / "audit.csv", keep_default_na=False)
    train = rows[rows["split"] == "train"].sort_values("p_label")
    assert "train/green/wrong.png" in list(train["file"])[:4]
    assert set(rows.loc[rows["leak"], "file"]) == {"train/green/2.png", "test/green/leak.png"}
    assert said["leaks"] == said["exact_duplicates"] == 2
    assert said["left_out"][0].startswith("train/green/broken\u202e.jpg")
    page = (tmp_path / "out" / "audit.html").read_text("utf-8")
    assert page.count("<tr data-label") == len(rows) == 25
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    # A mark that would turn the direction of the rest of the line.
    assert "green/broken⟨U+202E⟩.jpg" in page
    assert "\u202e" not in page
    assert "<b>red" not in page
    if CHROMIUM is not None:
        browse(tmp_path / "browser", lambda shown: _used(shown, tmp_path / "out" / "audit.html"))


async def _used(shown: Page, page: Path) -> None:
    """Sorts and filters by the keyboard, in a narrow window and a wide one."""
    await shown.open(page)
    for width, scheme in ((1280, "light"), (360, "dark")):
        await shown.look(width, scheme)
        assert await shown.ask("document.documentElement.scrollWidth <= innerWidth")
        contrast, text = await shown.ask(CONTRAST)
        assert contrast >= 4.5, text
    column = "[...table.tBodies[0].rows].map((row) => row.cells[1].textContent)"
    await shown.ask("table.tHead.querySelector('button').focus()")
    for order in (sorted, lambda files: sorted(files, reverse=True)):
        await shown.press("Enter", 13)
        files = await shown.ask(column)
        assert files == order(files)
    await shown.ask("controls.querySelector('select').focus()")
    await shown.press("ArrowDown", 40)
    assert await shown.ask("shown.textContent") == "8 of 25 images"
    assert shown.complaints == []


def test_audit_fits_again_with_labels_put_right(run, photos, network, tmp_path) -> None:
    rows = [("green/0.png", 'blue "sea"'), ("green/1.png", ""), ("green/2.png", "green")]
    pd.DataFrame(rows, columns=["file", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    head = [*network, "--train", "head", "-o", tmp_path / "out"]

    said = run("audit", photos, "--fix", tmp_path / "labels.csv", *head)

    assert said["corrected"] == ['green/0.png: green -> blue "sea"', "green/1.png: left out"]
    assert said["training_images"] == 17
    assert said["fitted_anew"]
    file = tmp_path / "out" / "model.lqf"
    model = PhotoModel.load(file)
    assert (
        model.classes[model.photos.labels[model.photos.files.index("green/0.png")]] == 'blue "sea"'
    )


def test_an_audited_model_is_put_right_without_another_fit(
    run, photos, network, tmp_path, monkeypatch
) -> None:
    head = [*network, "--train", "head", "-o", tmp_path / "out"]
    run("audit", photos, *head)
    before = PhotoModel.load(tmp_path / "out" / "model.lqf")
    rows = [("green/0.png", 'blue "sea"'), ("green/1.png", "")]
    pd.DataFrame(rows, columns=["file", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    monkeypatch.setattr("lqf.app.fit.fit_photos", None)

    # The second time the model is one that was put right already.
    for error in (before.lqf.leave_one_out().error, None):
        said = run("audit", photos, "--fix", tmp_path / "labels.csv", *head)
        assert not said["fitted_anew"]
        assert said["error_before_corrections_percent"] == error or error is None
        model = PhotoModel.load(tmp_path / "out" / "model.lqf")
        refit = model.lqf.refit(model.images(model.photos), torch.as_tensor(model.photos.labels))
        assert len(model.photos) == 17
        torch.testing.assert_close(model.lqf.delta_, refit.delta_, rtol=1e-3, atol=1e-4)

    # Other weights, or another size, are another model.
    with pytest.raises(TypeError, match="not callable"):
        main(
            [*map(str, ["audit", photos, "--fix", tmp_path / "labels.csv", *head]), "--size", "40"]
        )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("file,name\na,b\n", "no column 'label'"),
        ("file,label\nabsent.png,green\n", "which is not among the photographs"),
        ("file,label\ngreen/0.png,purple\n", "'purple', which is no class"),
    ],
)
def test_corrections_that_fit_nothing_are_refused(
    photos, network, tmp_path, capsys, rows: str, told: str
) -> None:
    (tmp_path / "labels.csv").write_text(rows, "utf-8")
    arguments = ["audit", photos, "--fix", tmp_path / "labels.csv", *network, "--train", "head"]
    assert main([*map(str, arguments), "-o", str(tmp_path / "out")]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("fit {photos} --network resnet81", "did you mean 'resnet18'"),
        ("fit {photos} --network timm/resnot18", "did you mean 'timm/resnet18"),
        ("fit {photos} --size 3", "--size is 3"),
        ("fit {photos}/green", "holds no images in folders of classes"),
        ("predict {photos}/absent.lqf a.jpg", "there is no model"),
        ("predict {photos}/green/0.png a.jpg", "is no model of lqf fit"),
        (
            "forget {fitted} --files green/99.png",
            "'green/99.png' is not among the 18 training files",
        ),
        ("explain {fitted} {photos}/green/0.png --number 0", "--number is 0"),
        ("compare {photos} {photos}", "holds no results"),
    ],
)
def test_what_a_person_gets_wrong_is_one_sentence(
    photos, fitted, capsys, arguments: str, told: str
) -> None:
    words = arguments.format(photos=photos, fitted=fitted).split(" ")
    capsys.readouterr()
    assert main(words) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert error.endswith(".\n")


def test_weights_that_cannot_be_had_are_named_with_place_and_hash(
    photos, monkeypatch, tmp_path, capsys
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    assert main(["fit", str(photos), "-o", str(tmp_path / "m.lqf")]) == 1
    error = capsys.readouterr().err
    assert "resnet18-f37072fd.pth" in error
    assert "begins with f37072fd" in error
    assert str(tmp_path / "hub" / "checkpoints") in error
    assert "--weights" in error


def test_every_sub_command_of_ours_has_an_example_that_parses() -> None:
    names: list[str] = []

    class Sub:
        epilog = ""

        def add_argument(self, *_: object, **__: object) -> None: ...

    subs: dict[str, Sub] = {}

    def command(name: str, *_: object) -> Sub:
        names.append(name)
        return subs.setdefault(name, Sub())

    register(command)
    assert len(names) == 10
    for name, sub in subs.items():
        words = sub.epilog.split("\n")[1].split()
        assert words[:2] == ["lqf", name]
        assert _parser().parse_args(words[1:]).command == name


def test_version_and_completion(capsys) -> None:
    for words, told in ((["--version"], "lqf 0."), (["--print-completion", "bash"], "audit")):
        with pytest.raises(SystemExit, match="0"):
            main(words)
        assert told in capsys.readouterr().out


def test_networks_of_timm_are_fitted_with_their_own_normalisation() -> None:
    pytest.importorskip("timm")
    from lqf.app.network import architecture

    network, source = architecture("timm/vit_tiny_patch16_224")
    assert source.mean == (0.5, 0.5, 0.5)
    assert sum(1 for _ in network.parameters()) > 10


def test_the_example_finds_the_planted_labels_and_draws(run, tmp_path) -> None:
    said = run("example", "-o", tmp_path)
    assert said["wrong_labels_among_the_ten_least_probable"] >= 4
    assert said["test_accuracy_percent"] > 85
    assert Path(said["picture"]).stat().st_size > 10_000
