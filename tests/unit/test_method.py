import pytest

from lqf import method
from lqf.method import METHODS, ImpossibleMethod, Method


def test_paper_points_are_where_the_paper_puts_them() -> None:
    lqf = METHODS["lqf"]

    assert (lqf.trained, lqf.loss, lqf.activation, lqf.optimizer, lqf.pooling) == (
        "linearized",
        "mse",
        "leaky_relu",
        "kfac_sgd",
        "average",
    )
    assert METHODS["gaf"] == Method("linearized", "cross_entropy", "relu", "sgd")
    assert len(set(METHODS.values())) == len(METHODS)


def test_every_point_has_a_title() -> None:
    assert set(method.TITLES) == set(METHODS)
    assert len(set(method.TITLES.values())) == len(METHODS)


@pytest.mark.parametrize("name", [n for n in METHODS if n.startswith("lqf_no_")])
def test_an_ablation_puts_back_what_its_name_says(name: str) -> None:
    original, given_up = METHODS["gaf"], name.removeprefix("lqf_no_").split("_")

    ablated = METHODS[name]

    assert (ablated.loss == original.loss) == ("mse" in given_up)
    assert (ablated.optimizer == original.optimizer) == ("kfac" in given_up)
    assert (ablated.activation == original.activation) == ("leaky" in given_up)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (("linearized", "cross_entropy", "relu", "exact"), ["'optimizer'", "'loss'"]),
        (("head", "cross_entropy", "relu", "euclidean"), ["'optimizer'", "'loss'"]),
        (("all", "mse", "relu", "kfac_sgd"), ["'trained'", "'optimizer'"]),
        (("all", "mse", "relu", "exact"), ["'trained'", "'optimizer'"]),
        (("everything", "mse", "relu", "sgd"), ["'trained'", "'everything'", "linearized"]),
        (("all", "mse", "relu", "sgd", "average", "elr"), ["'regularizer'", "'loss'"]),
        (
            ("head", "cross_entropy", "relu", "sgd", "average", "l2_sp"),
            ["'regularizer'", "'trained'", "'optimizer'"],
        ),
        (("all", "mse", "relu", "sgd", "max"), ["'pooling'", "'max'", "covariance"]),
    ],
)
def test_impossible_points_are_refused_with_both_keys(
    choices: tuple[str, ...], said: list[str]
) -> None:
    with pytest.raises(ImpossibleMethod) as refused:
        Method(*choices)

    message = str(refused.value)
    assert all(word in message for word in said)
    assert "\n" not in message


def test_unknown_name_is_refused_with_the_closest() -> None:
    with pytest.raises(ValueError, match="did you mean 'lqf_exact'"):
        method.get("lqf_exct")
