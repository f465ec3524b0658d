"""How a recipe's batch is spread over processes, where a machine has another number of GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from corrloss.plan.schema import ExperimentError

AUTO = "auto"


@dataclass(frozen=True)
class BatchPlan:
    """Processes of a run and their images; None is what the recipe has.

    The coefficient is computed over the positives of one process, so images per process are part of a recipe:
    with another plan the training has another identity.

    Attributes:
        processes: Training processes of one run, one a GPU where the scale trains on GPUs.
        images_per_process: Images of one process in one iteration; ``auto`` is what keeps the recipe's batch.
        rescale_lr: Whether another batch than the recipe's is allowed, the learning rate multiplied by the
            ratio of the two (Goyal et al. 2017).
        on_cpu: Whether processors train what the scale trains on GPUs.
    """

    processes: int | None = None
    images_per_process: int | str | None = None
    rescale_lr: bool = False
    on_cpu: bool = False

    def apply(self, config: dict, run_name: str) -> None:
        """Set the processes and images of a resolved config, in place.

        Args:
            config: With ``bench.processes``, ``bench.gpus`` and images per process as in the recipe.
            run_name: Name of the run, for the message.

        Raises:
            ExperimentError: Processes times images are not the recipe's batch, and ``rescale_lr`` is not set.
        """
        bench, loader = config["bench"], config["train_dataloader"]
        recipe = bench["processes"] * loader["batch_size"]
        bench["processes"] = self.processes or bench["processes"]
        bench["gpus"] = bench["processes"] if bench["gpus"] and not self.on_cpu else 0
        images = recipe // bench["processes"] if self.images_per_process == AUTO else self.images_per_process
        loader["batch_size"] = images or loader["batch_size"]
        batch = bench["processes"] * loader["batch_size"]
        if batch == recipe:
            return
        if not self.rescale_lr:
            raise ExperimentError(self._refusal(run_name, recipe, bench["processes"], loader["batch_size"]))
        bench["lr_factor"] = batch / recipe
        config["optim_wrapper"]["optimizer"]["lr"] *= batch / recipe

    @staticmethod
    def _refusal(run_name: str, recipe: int, processes: int, images: int) -> str:
        fitting = "images_per_process=auto, " if recipe % processes == 0 else ""
        return (
            f"{run_name}: expected the recipe's batch of {recipe} images, got {processes} processes of "
            f"{images} images, a batch of {processes * images}; set {fitting}another number of processes, or "
            "rescale_lr=true, which multiplies the learning rate by the ratio and records it in the config"
        )


RECIPE = BatchPlan()
