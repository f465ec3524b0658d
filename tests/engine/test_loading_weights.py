"""Weights that are not this model's, or more than weights."""

import pickle
from pathlib import Path

import pytest
import torch

from corrloss.engine.weights import WeightsError, load_weights


class Bomb:
    """What a pickle can do: call anything when it is read."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def save(path, content):
    torch.save(content, path)


def cut(path, model):
    save(path, model.state_dict())
    path.write_bytes(path.read_bytes()[:-100])


BAD = {
    "missing": lambda path, model: None,
    "empty": lambda path, model: path.write_bytes(b""),
    "text": lambda path, model: path.write_text("<html>404 Not Found</html>"),
    "cut off": cut,
    "of another model": lambda path, model: save(path, torch.nn.Linear(3, 2).state_dict()),
    "of other shapes": lambda path, model: save(path, model.state_dict() | {"0.weight": torch.zeros(5, 3)}),
    "one tensor too few": lambda path, model: save(path, dict(list(model.state_dict().items())[1:])),
    "one tensor too many": lambda path, model: save(path, model.state_dict() | {"more": torch.zeros(1)}),
    "a checkpoint": lambda path, model: save(path, {"state_dict": model.state_dict(), "meta": {}}),
    "a whole model": lambda path, model: save(path, model),
    "code among the tensors": lambda path, model: save(
        path, model.state_dict() | {"0.bias": Bomb(path.parent / "pwned")}
    ),
    "a pickle": lambda path, model: path.write_bytes(pickle.dumps(Bomb(path.parent / "pwned"))),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_weights_are_refused_by_name_and_run_nothing(name, model, tmp_path):
    path = tmp_path / "weights.pth"
    BAD[name](path, model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not the weights of this run's model") and "train again" in message
    assert not (tmp_path / "pwned").exists()
    if name not in ("of another model", "one tensor too few", "one tensor too many", "of other shapes"):
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])


def test_the_bomb_is_live(tmp_path):
    """Whoever trusts such a file runs what it says; so the tests above prove something."""
    path = tmp_path / "weights.pth"
    torch.save({"0.bias": Bomb(tmp_path / "pwned")}, path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "pwned").exists()


def test_weights_are_loaded_to_the_bit(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    load_weights(other, tmp_path / "weights.pth")
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_pretrained_weights_that_a_config_names_run_nothing_either(model, tmp_path):
    """mmengine reads these, by torch's default: tensors only."""
    from mmengine.runner import load_checkpoint

    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {"0.bias": Bomb(tmp_path / "pwned")}}, path)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_checkpoint(model, str(path))
    assert not (tmp_path / "pwned").exists()
