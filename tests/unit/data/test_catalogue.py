import pytest

from lqf.data import catalogue
from lqf.data.catalogue import DEMO, SPLITS


def test_the_demo_world_has_a_source_and_targets_of_every_distance():
    assert next(iter(DEMO)) == "letters"
    distances = {spec.distance for spec in DEMO.values()}
    assert distances == {"source", "real", "near", "fine", "far"}
    assert sum(spec.group == "source" for spec in DEMO.values()) == 1
    assert sum(spec.group == "fine" for spec in DEMO.values()) == 3
    assert len(DEMO) - 1 >= 6


def test_keys_are_names_and_seeds_differ():
    assert all(key == spec.name for key, spec in DEMO.items())
    seeds = [spec.seed for spec in DEMO.values()]
    assert len(set(seeds)) == len(seeds), "two data sets would share their random draws"


@pytest.mark.parametrize("name", DEMO)
def test_classes_are_distinct_and_every_split_is_planned(name):
    spec = catalogue.get(name)
    assert len(set(spec.classes)) == len(spec.classes) >= 8
    assert set(spec.per_class) == set(SPLITS)
    assert all(number is None or number > 0 for number in spec.per_class.values())


def test_the_source_has_42_letters_and_20000_images_to_train_on():
    letters = catalogue.get("letters")
    assert len(letters.classes) == 42
    assert 20000 <= 42 * letters.per_class["train"] < 20042


def test_a_misspelt_name_is_refused_with_the_closest_one():
    with pytest.raises(ValueError, match=r"unknown data set 'greeek': did you mean 'greek'\?"):
        catalogue.get("greeek")


def test_a_name_like_no_other_is_refused_with_all_of_them():
    with pytest.raises(ValueError, match="allowed are letters, digits, greek") as refusal:
        catalogue.get("zzzzzz")
    assert "did you mean" not in str(refusal.value)
