import pytest
import yaml

from lqf.data.layouts import LAYOUTS, read_layout
from lqf.data.published import CatalogueError, Published, default_path, find_weights, read
from lqf.report import paper

CONTENT = yaml.safe_load(default_path().read_text("utf-8"))


def _changed(tmp_path, path, value):
    content = yaml.safe_load(default_path().read_text("utf-8"))
    at = content
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_papers_ten_data_sets_are_there():
    assert set(read().datasets) == {
        *("caltech256", "chest_xray", "malaria", "mit67", "oxford_pets", "stanford_dogs"),
        *("flowers102", "cub200_2011", "cub200_2010", "fgvc_aircraft", "stanford_cars"),
    }
    fine = {one.name for one in read().datasets.values() if one.group == "fine"}
    assert {"cub200_2011", "fgvc_aircraft", "stanford_cars", "stanford_dogs"} <= fine


@pytest.mark.parametrize("name", list(CONTENT["datasets"]))
def test_every_entry_is_complete(name):
    dataset = read().get(name)
    assert dataset.layout in LAYOUTS
    assert dataset.take
    assert dataset.validation is not None or "val" in dataset.images
    for choices in dataset.parts.values():
        files = [file for choice in choices for file in choice]
        assert any(all(file.urls for file in choice) for choice in choices)
        assert len({file.name for file in files}) == len(files)
        for file in files:
            assert file.unpacked is not None or not file.name.endswith(("tar", "gz", "tgz", "zip"))
            assert file.unpacked is None or file.unpacked > (file.bytes or 0)


def test_a_name_that_is_close_is_offered():
    with pytest.raises(CatalogueError, match="did you mean 'flowers102'"):
        read().get("flowers")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            ("datasets", "mit67", "licences"),
            "x",
            "licences' does not exist: did you mean 'licence'",
        ),
        (("datasets", "mit67", "take"), None, "'datasets.mit67.take' is missing"),
        (("datasets", "mit67", "classes"), "many", "'datasets.mit67.classes' is 'many'"),
        (("datasets", "mit67", "group"), "rough", "it must be 'coarse' or 'fine'"),
        (("datasets", "mit67", "split", "rule"), "some", "it must be 'official', 'per_class'"),
        (
            ("datasets", "malaria", "split", "test"),
            2,
            "split.test' is 2: it must be less than 1",
        ),
        (("datasets", "malaria", "split", "group"), "(", "is no pattern"),
        (("datasets", "malaria", "split", "group"), "x", "must have a group in parentheses"),
        (("datasets", "flowers102", "class_names"), ["rose"], "has 1 names, but 'classes' is 102"),
        (("datasets", "Mit67"), {}, "'datasets.Mit67.*: allowed are up to 100 small letters"),
        (("datasets", "digits"), {}, "a name of the demo's, choose another"),
        (
            ("weights", "resnet50.imagenet1k_v1", "file", "sha256"),
            "0x12",
            "file.sha256' is '0x12': it must match",
        ),
        (
            ("weights", "resnet50.imagenet1k_v1", "file", "urls"),
            ["ftp://a"],
            "must match pattern .*https",
        ),
        (
            ("weights", "resnet50.imagenet1k_v1", "file", "name"),
            "../a",
            "file.name' is '../a': it must match",
        ),
    ],
)
def test_a_wrong_key_is_named(path, value, sentence, tmp_path):
    with pytest.raises(CatalogueError, match=sentence):
        read(_changed(tmp_path, path, value))


def test_an_unknown_layout_is_refused(tmp_path):
    dataset = read(_changed(tmp_path, ("datasets", "mit67", "layout"), "folder")).get("mit67")
    with pytest.raises(CatalogueError, match=r"layout' is 'folder': did you mean '\w*folders'"):
        read_layout(tmp_path, dataset)


def test_a_missing_catalogue_says_where_to_run(tmp_path):
    with pytest.raises(CatalogueError, match="there is no catalogue"):
        read(tmp_path / "datasets.yaml")


def test_weights_of_the_catalogue_go_first() -> None:
    found = find_weights(read(), "resnet50.imagenet1k_v1")

    assert found.file.bytes == 102_530_333
    assert found.file.sha256 is not None
    assert len(found.file.sha256) == 64


def test_torchvision_knows_the_others() -> None:
    found = find_weights(read(), "resnet18.imagenet1k_v1")

    assert found.file.name == "resnet18-f37072fd.pth"
    assert found.file.digest == ("sha256", "f37072fd")
    assert found.file.urls == ("https://download.pytorch.org/models/resnet18-f37072fd.pth",)


def test_catalogue_agrees_with_torchvision() -> None:
    from torchvision.models import get_model_weights

    for one in get_model_weights("resnet50"):
        file = read().weights[f"resnet50.{one.name.lower()}"].file
        assert file.urls == (one.url,)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet18.imagenet1k_v2", "those of 'resnet18' are resnet18.imagenet1k_v1"),
        ("resnet51.imagenet1k_v1", "unknown network 'resnet51': did you mean 'resnet50'"),
        ("demo_resnet.imagenet1k_v1", "those of 'demo_resnet' are none"),
    ],
)
def test_unknown_weights_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_weights(read(), name)


@pytest.mark.parametrize("entry", read().datasets.values(), ids=lambda one: one.name)
def test_an_entry_says_whose_it_is_and_what_it_must_be(entry: Published) -> None:
    assert entry.home
    assert entry.home.startswith("http")
    assert entry.licence
    assert entry.citation
    assert entry.found or entry.images["train"]
    for part in entry.parts:
        for file in entry.choice(part):
            assert file.urls
            # What the first good download pins is at least an archive of a bounded size.
            assert file.digest or file.unpacked


@pytest.mark.parametrize("entry", read().datasets.values(), ids=lambda one: one.name)
def test_an_entry_is_found_in_the_papers_table(entry: Published) -> None:
    assert entry.paper in paper.TABLE1
    assert entry.group == paper.GROUPS[entry.paper]


def test_every_data_set_of_the_paper_has_an_entry() -> None:
    assert {entry.paper for entry in read().datasets.values()} == set(paper.TABLE1)
