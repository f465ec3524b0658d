"""Weights that are not this model's, or more than weights."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from corrloss.engine.weights import WeightsError, check_starting_weights, load_weights
from corrloss.files import sha256

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


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


def test_the_bomb_is_live(tmp_path, monkeypatch):
    """Whoever trusts such a file runs what it says; so the tests above prove something."""
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD")  # that `corrloss.engine.weights` sets
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
    """mmengine reads these: tensors only, by torch's default and the variable that `weights` sets."""
    from mmengine.runner import load_checkpoint

    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {"0.bias": Bomb(tmp_path / "pwned")}}, path)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_checkpoint(model, str(path))
    assert not (tmp_path / "pwned").exists()


def starting_from(path, checksum):
    """The parts of a run's config that name its starting weights."""
    model = {"backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": str(path)}}}
    return Config({"model": model, "bench": {"starting_weights": {path.name: checksum}}})


def test_starting_weights_are_verified_before_a_training(model, tmp_path):
    path = tmp_path / "resnet.pth"
    save(path, model.state_dict())
    checksum = sha256(path)
    for expected in (checksum, checksum[:8], None):  # planned with, in the published name, neither
        check_starting_weights(starting_from(path, expected))
    save(path, torch.nn.Linear(3, 2).state_dict())
    with pytest.raises(
        WeightsError, match=f"resnet.pth: expected a file with SHA-256 {checksum[:8]}, found "
    ):
        check_starting_weights(starting_from(path, checksum[:8]))
    path.unlink()
    with pytest.raises(WeightsError, match=r"resnet.pth: expected .* found no file"):
        check_starting_weights(starting_from(path, None))


LOADED_BY_MMENGINE = """
import sys
from mmengine.runner import load_checkpoint
from corrloss.engine.weights import check_starting_weights
from test_loading_weights import Path, starting_from, torch
path = Path(sys.argv[1])
for load in (lambda: check_starting_weights(starting_from(path, None)),
             lambda: load_checkpoint(torch.nn.Linear(3, 2), str(path))):
    try:
        load()
    except Exception as error:
        print(type(error).__name__)
"""


def test_no_variable_of_torch_makes_starting_weights_run_code(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {"0.bias": Bomb(tmp_path / "pwned")}}, path)
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY_MMENGINE, path],
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONPATH": f"{ROOT}:{HERE}"},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if line.endswith("Error")]  # mmengine prints, too
    assert errors == ["WeightsError", "UnpicklingError"], done.stderr
    assert not (tmp_path / "pwned").exists()
