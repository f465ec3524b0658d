"""How a recipe's batch is spread over processes, where a machine has another number of GPUs."""

from __future__ import annotations

from dataclasses import dataclass, fields

from corrloss.plan.schema import ExperimentError

AUTO = "auto"
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class BatchPlan:
    """What a user sets of a run's processes; None leaves it to the recipe.

    The coefficient is computed over the positives of one process, so images per process are part of a recipe:
    the defaults are the recipe's own, and another spread is another run, with another hash.

    Attributes:
        processes: Training processes of one run, one a GPU where the scale trains on GPUs.
        images_per_process: Images of one process in one iteration; ``auto`` is what keeps the recipe's batch.
        rescale_lr: Whether another batch than the recipe's is allowed, the learning rate multiplied by the
            ratio of the two (Goyal et al. 2017).

    Example:
        >>> BatchPlan.parse("processes=2,images_per_process=auto")
        BatchPlan(processes=2, images_per_process='auto', rescale_lr=False)
    """

    processes: int | None = None
    images_per_process: int | str | None = None
    rescale_lr: bool = False

    @classmethod
    def parse(cls, text: str) -> BatchPlan:
        """Read ``name=value`` pairs with commas between them; the empty text is the recipe's own spread.

        Raises:
            ExperimentError: A name is unknown or a value is not of its kind.
        """
        return cls.of(dict(pair.partition("=")[::2] for pair in text.split(",") if pair))

    @classmethod
    def of(cls, settings: dict[str, object]) -> BatchPlan:
        """Read settings by name, text or values.

        Raises:
            ExperimentError: A name is unknown or a value is not of its kind.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise ExperimentError(f"setting {name!r} is not one of {', '.join(known)}")
        return cls(**{name: _read(name, str(value)) for name, value in settings.items()})

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        set_here = {field.name: getattr(self, field.name) for field in fields(self)}
        return ",".join(f"{name}={str(value).lower()}" for name, value in set_here.items() if value)

    def apply(self, config: dict, run_name: str) -> None:
        """Set the processes and images of a resolved config, in place.

        Args:
            config: With ``bench.processes``, ``bench.gpus`` and images per process as in the recipe.
            run_name: What to call the run in a message.

        Raises:
            ExperimentError: Processes times images are not the recipe's batch, and ``rescale_lr`` is not set.
        """
        bench, loader = config["bench"], config["train_dataloader"]
        recipe = bench["processes"] * loader["batch_size"]
        bench["processes"] = self.processes or bench["processes"]
        bench["gpus"] = bench["processes"] if bench["gpus"] else 0
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
            f"{run_name}: {processes} processes of {images} images are a batch of {processes * images}, the "
            f"recipe's is {recipe}; set {fitting}another number of processes, or rescale_lr=true, which "
            "multiplies the learning rate by the ratio and says so in the run's config"
        )


RECIPE = BatchPlan()


def _read(name: str, text: str) -> int | bool | str:
    if name == "rescale_lr":
        if text.lower() in TRUTHS:
            return TRUTHS[text.lower()]
    elif text.isdecimal() and int(text) > 0:
        return int(text)
    elif name == "images_per_process" and text == AUTO:
        return text
    kinds = {"rescale_lr": "true or false", "images_per_process": f"a whole number above 0, or {AUTO},"}
    kind = kinds.get(name, "a whole number above 0")
    raise ExperimentError(f"setting {name}={text!r}: {kind} is needed")
