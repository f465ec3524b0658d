"""How a recipe's batch is spread over processes and steps, where a machine has another number of GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from corrloss.plan.schema import ExperimentError

AUTO = "auto"
#: What a precision makes of the optimiser: the wrapper's type; float32 changes nothing.
PRECISIONS = {"fp32": None, "bf16": "AutocastOptimWrapper", "fp16": "AmpOptimWrapper"}


@dataclass(frozen=True)
class BatchPlan:
    """Processes of a run, their images and their steps; None is what the scale or the recipe has.

    The coefficient is computed over the positives of one process in one step, so images per process are part
    of a recipe: with another plan the training has another identity.

    Attributes:
        processes: Training processes of one run, one a GPU where the scale trains on GPUs.
        images_per_process: Images of one process in one step; ``auto`` is what keeps the recipe's batch.
        rescale_lr: Whether another batch than the recipe's is allowed, the learning rate multiplied by the
            ratio of the two (Goyal et al. 2017).
        accumulate: Steps of each process whose gradients make one update; ``auto`` is what keeps the recipe's
            batch.
        on_cpu: Whether processors train what the scale trains on GPUs.
        precision: A key of `PRECISIONS`, for the forward pass of the training.
    """

    processes: int | None = None
    images_per_process: int | str | None = None
    rescale_lr: bool = False
    on_cpu: bool = False
    accumulate: int | str | None = None
    precision: str | None = None

    def over(self, scale: dict) -> BatchPlan:
        """This plan, with what a scale's file has under ``spread`` where it says nothing."""
        own = {name: value for name, value in vars(self).items() if value is not None}
        return BatchPlan(**scale | own)

    def apply(self, config: dict, run_name: str) -> None:
        """Set the processes, images and steps of a resolved config, in place.

        Args:
            config: With ``bench.processes``, ``bench.gpus`` and images per process as in the recipe.
            run_name: Name of the run, for the message.

        Raises:
            ExperimentError: Processes times images times steps are not the recipe's batch, and ``rescale_lr``
                is not set; or the optimiser cannot have the precision.
        """
        bench, loader = config["bench"], config["train_dataloader"]
        recipe = bench["processes"] * loader["batch_size"]
        processes = self.processes or bench["processes"]
        images, accumulate = self.images_per_process, self.accumulate or 1
        if images == AUTO:
            # Both `auto`: the recipe's images, and as many steps as it takes.
            images = None if accumulate == AUTO else recipe // (processes * accumulate)
        images = images or loader["batch_size"]
        if accumulate == AUTO:
            accumulate = max(1, recipe // (processes * images))
        bench["processes"], loader["batch_size"] = processes, images
        bench["gpus"] = processes if bench["gpus"] and not self.on_cpu else 0
        if accumulate > 1:
            bench["accumulate"] = accumulate
        self._set_precision(config, run_name)
        batch = processes * images * accumulate
        if batch == recipe:
            return
        if not self.rescale_lr:
            raise ExperimentError(_refusal(run_name, recipe, processes, images, accumulate))
        bench["lr_factor"] = batch / recipe
        config["optim_wrapper"]["optimizer"]["lr"] *= batch / recipe

    def _set_precision(self, config: dict, run_name: str) -> None:
        wrapper = PRECISIONS[self.precision or "fp32"]
        if wrapper is None:
            return
        found = config["optim_wrapper"].get("type", "OptimWrapper")
        if found != "OptimWrapper":
            raise ExperimentError(
                f"{run_name}: precision={self.precision} expects the detector's optim_wrapper to be an "
                f"OptimWrapper, got {found}; remove the setting, or the detector's own wrapper"
            )
        config["optim_wrapper"]["type"] = wrapper
        config["bench"]["precision"] = self.precision


def _refusal(run_name: str, recipe: int, processes: int, images: int, accumulate: int) -> str:
    ways = []
    if recipe % (processes * images) == 0:
        ways.append("accumulate=auto, with coefficients over the recipe's images")
    if recipe % (processes * accumulate) == 0:
        ways.append("images_per_process=auto, with coefficients over other images than the recipe's")
    divisors = [count for count in range(1, recipe // images + 1) if recipe // images % count == 0]
    ways.append(
        f"processes={'|'.join(map(str, divisors))} with accumulate=auto"
        if not ways and recipe % images == 0
        else "another number of processes"
    )
    steps = f" in {accumulate} steps" if accumulate > 1 else ""
    return (
        f"{run_name}: expected the recipe's batch of {recipe} images, got {processes} processes of "
        f"{images} images{steps}, a batch of {processes * images * accumulate}; set {', or '.join(ways)}, or "
        "rescale_lr=true, which multiplies the learning rate by the ratio and records it in the config"
    )


RECIPE = BatchPlan()
