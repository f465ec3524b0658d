"""Memory and files of a long training stay what they were."""

import resource
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS

from corrloss import CorrelationLoss
from corrloss.engine.checkpoints import Checkpoints
from corrloss.engine.hooks import CurveHook, DivergenceHook, ProgressHook
from corrloss.engine.resume import ResumeHook
from corrloss.engine.trainer import build_runner

ITERATIONS = 50 * 400  # a mini training has 200 to 500


@MODELS.register_module()
class ScoresOfPoints(BaseModel):
    """A linear score with Correlation Loss, small enough for many iterations."""

    def __init__(self):
        super().__init__()
        self.score = torch.nn.Linear(4, 1)
        self.loss_corr = CorrelationLoss("concordance", weight=0.2)

    def forward(self, inputs, data_samples=None, mode="loss"):
        points = torch.stack(inputs)
        scores = self.score(points).sigmoid().squeeze(1)
        return {"loss_cls": (scores - 0.5).square().mean(), "loss_corr": self.loss_corr(scores, points[:, 0])}


class Points(torch.utils.data.Dataset):
    """Four numbers an item, from the global generator: what a resume must restore."""

    def __len__(self):
        return 4000

    def __getitem__(self, index):
        return {"inputs": torch.rand(4)}


class Watch(Hook):
    """Notes the memory of the process and the files of the folder."""

    def __init__(self, folder):
        self.folder = folder
        self.memory, self.files = {}, set()

    def after_train_iter(self, runner, *_args, **_kwargs):
        if runner.iter % 1000 == 999:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory[runner.iter] = pages * resource.getpagesize() / 2**20
            self.files.add(sum(path.is_file() for path in self.folder.glob("iter_*")))


@pytest.mark.slow
def test_fifty_times_the_iterations_of_mini_take_no_more_memory(tmp_path):
    config = Config(
        dict(
            model=dict(type="ScoresOfPoints"),
            train_dataloader=dict(
                dataset=Points(),
                batch_size=8,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=True),
                collate_fn=dict(type="pseudo_collate"),
            ),
            train_cfg=dict(max_epochs=ITERATIONS // 500),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
            param_scheduler=[],
            randomness=dict(seed=0),
            default_scope="mmdet",
            bench=dict(starting_weights={}, run="long", gpus=0, processes=1, threads=1),
        )
    )
    curve, watch = CurveHook(), Watch(tmp_path)
    hooks = [ProgressHook("long", lambda line: None), curve, DivergenceHook()]
    checkpoints = Checkpoints(tmp_path)
    runner = build_runner(config, checkpoints, [*hooks, ResumeHook(checkpoints, curve), watch], print)
    runner.train()
    assert runner.iter == ITERATIONS
    start, end = watch.memory[4999], watch.memory[ITERATIONS - 1]
    assert end - start < 10, f"memory grew from {start:.0f} to {end:.0f} MiB"
    assert max(watch.files) <= 2
    assert len(curve.curve) <= 51
