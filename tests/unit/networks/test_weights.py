import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lqf.networks.weights import WrongWeights, features_state, read_state


def state() -> dict[str, Tensor]:
    return {"body.weight": torch.ones(2, 3), "body.bias": torch.zeros(2)}


class Unpickled:
    """Would be run by a loader that executes what is in the file."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('code was executed')",)


@pytest.mark.parametrize(
    "content",
    [
        state(),
        OrderedDict(state()),
        {"state_dict": state(), "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": {f"module.{name}": value for name, value in state().items()}},
        {"state_dict": {f"module.module.{name}": value for name, value in state().items()}},
    ],
)
@pytest.mark.parametrize("modern", [True, False])
def test_state_dict_is_found_in_files_of_torch_save(
    content: object, modern: bool, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=modern)

    found = read_state(path)

    assert list(found) == list(state())
    assert torch.equal(found["body.weight"], torch.ones(2, 3))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")

    assert set(read_state(tmp_path / "weights.safetensors")) == set(state())


def test_old_names_of_densenet_are_torchvisions(tmp_path: Path) -> None:
    path = tmp_path / "dense.pth"
    torch.save({"features.denseblock1.denselayer2.norm.1.weight": torch.ones(1)}, path)

    assert list(read_state(path)) == ["features.denseblock1.denselayer2.norm1.weight"]


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state(), "extra": Unpickled()}, path)

    with pytest.raises(WrongWeights, match=r"holds more than tensors, .*could run code"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"epoch": 3}, "has a int under 'epoch'"),
    ],
)
def test_other_content_is_refused(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)

    with pytest.raises(WrongWeights, match=message):
        read_state(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_and_missing_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(WrongWeights, match="there is no file"):
        read_state(path)
    path.write_text("<html>log in</html>")

    with pytest.raises(WrongWeights, match=r"is no file of weights: .*\.$"):
        read_state(path)


def network() -> nn.Module:
    made = nn.Sequential()
    made.add_module("body", nn.Linear(3, 2))
    return made


def test_head_and_counters_do_not_matter() -> None:
    made = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    given = {n: t + 1 for n, t in made.state_dict().items() if "tracked" not in n}

    kept = features_state({**given, "fc.1.bias": torch.ones(9)}, made, ("fc.",), "x")

    assert set(kept) == set(made.state_dict())
    assert torch.equal(kept["0.weight"], made[0].weight + 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"body.bias": None}, "of its 2 tensors they lack 1 (body.bias); set backbone.network"),
        ({"more": torch.ones(1)}, "they have too many: 1 (more); set"),
        (
            {"body.bias": torch.ones(5)},
            "'body.bias' from x has shape (5,), but the network has (2,)",
        ),
        ({"body.bias": torch.tensor([0.0, float("nan")])}, "contains NaN"),
        # Nothing of a rounded weight is a weight.
        ({"body.bias": torch.ones(2, dtype=torch.int8)}, "'body.bias' from x is torch.int8"),
        ({"body.bias": torch.ones(2, device="meta")}, "on meta, but the network has torch.float32"),
        (
            {"body.bias": torch.ones(2).to_sparse()},
            "'body.bias' from x is torch.float32, torch.spar",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    change: dict[str, Tensor | None], sentence: str
) -> None:
    given = {n: t for n, t in {**state(), **change}.items() if t is not None}

    with pytest.raises(WrongWeights, match=re.escape(sentence)):
        features_state(given, network(), ("fc.",), "x")
