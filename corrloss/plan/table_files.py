"""From table files to the runs they need."""

from __future__ import annotations

from dataclasses import dataclass, replace

from corrloss.plan.experiments import Experiments
from corrloss.plan.model_zoo import model_of
from corrloss.plan.runs import OPTION_NAMES, PUBLISHED, Run
from corrloss.plan.schema import ExperimentError

HEADLINES = ("AP", "mask_AP")


@dataclass(frozen=True)
class Table:
    """One table at one scale.

    Attributes:
        name: Name of its file.
        title: Heading for people.
        data: Which data set of the scale its runs use, ``coco`` or ``cityscapes``; empty if it names one of
            its own, of which nothing is published.
        metrics: Columns of measured values, in order; none of kind ``overhead``.
        headlines: Metrics whose difference to the baseline is shown; the published figures are of the last.
        main: Whether a plain ``snakemake`` makes it.
        runs: Its runs, baselines first within each detector, seeds innermost.
        notes: What the file says of single variants, by run.
        test_dev: Data set whose test images its target also predicts, for the evaluation server; or None.
        kind: ``results``: what its runs achieve; ``overhead``: what the loss costs in training.
        question: What the table answers; empty where its file does not say.
        max_detections: Detections of an image and class that AP50, AP75 and AP by size count, 100 or 1000.
        control: Whether each baseline is also shown after isotonic regression of its scores.
    """

    name: str
    title: str
    data: str
    metrics: tuple[str, ...]
    headlines: tuple[str, ...]
    main: bool
    runs: tuple[Run, ...]
    notes: dict[Run, str]
    test_dev: str | None = None
    kind: str = "results"
    question: str = ""
    max_detections: int = 100
    control: bool = False

    def row(self, detector: str) -> Table:
        """This table with the runs of one detector alone."""
        runs = tuple(run for run in self.runs if run.detector == detector)
        return replace(self, title=f"{self.title}: {detector}", runs=runs)


def load_table(experiments: Experiments, name: str, scale: str, needed: str = "") -> Table:
    """Read one table file and list the runs that it needs at a scale.

    Args:
        experiments: Where the files are.
        name: Name of the table.
        scale: Name of the scale.
        needed: The kind that it must have; "" accepts each, and a table without runs at this scale.

    Returns:
        The table; its ``runs`` are empty where the file leaves this scale out.

    Raises:
        ExperimentError: The file is broken or of another kind, or a variant lacks the baseline that it is
            compared with.
    """
    content = experiments.read("table", name)
    sizes = experiments.read("scale", scale)
    path = f"{experiments.folder}/tables/{name}.yaml"
    kind, metrics = content.get("kind", "results"), tuple(content.get("metrics", ()))
    headlines = tuple(metric for metric in metrics if metric in HEADLINES)
    if kind == "results" and not headlines:
        raise ExperimentError(
            f"{path}: at metrics: expected one of {', '.join(HEADLINES)}, "
            f"whose difference to the baseline a table shows, got {', '.join(metrics)}"
        )
    notes = _runs(content, scale, sizes, path)
    if needed and (kind != needed or not notes):
        raise ExperimentError(
            f"{path}: expected a table of kind {needed!r} with runs at "
            f"scale {scale!r}, got kind {kind!r} with {len(notes)} runs; name another table or scale"
        )
    return Table(
        name=name,
        title=content["title"],
        data=content.get("data", ""),
        metrics=metrics,
        headlines=headlines,
        main=content.get("main", True),
        runs=tuple(notes),
        notes=notes,
        test_dev=sizes["datasets"].get("test_dev") if content.get("test_dev") else None,
        kind=kind,
        question=" ".join(content.get("question", "").split()),
        max_detections=content.get("max_detections", 100),
        control=content.get("control", False),
    )


def _runs(content: dict, scale: str, sizes: dict, path: str) -> dict[Run, str]:
    """The runs of a table at a scale, in order, with what the file notes of each.

    Raises:
        ExperimentError: The scale has no such data set, or a variant lacks the baseline that it is compared
            with.
    """
    published = "published" in sizes
    dataset = content.get("dataset") or sizes["datasets"].get(content["data"])
    if published and (dataset is None or "dataset" in content):
        return {}  # published weights are of COCO
    if dataset is None:
        known = ", ".join(sorted(sizes["datasets"]))
        raise ExperimentError(
            f"{path}: at data: expected one of {known}, which scale {scale!r} has a data set for, got "
            f"{content['data']!r}"
        )
    notes: dict[Run, str] = {}
    for row in content["rows"]:
        seeds = content.get("seeds", {}) | row.get("seeds", {})
        for variant in row["variants"]:
            if (variant["coefficient"] == PUBLISHED) != published:
                continue  # trained and published weights are never of one scale
            if scale in variant.get("scales", row.get("scales", content.get("scales", [scale]))):
                for seed in seeds.get(scale, [0]):
                    notes[make_run(scale, dataset, row["detector"], variant, seed)] = variant.get("note", "")
    for run in notes:
        if run.baseline not in notes:
            raise ExperimentError(
                f"{path}: {run.name} has no baseline in this table; "
                f"add the variant {{{_written(run.baseline)}}} to detector {run.detector}"
            )
    return notes


def _written(run: Run) -> str:
    """A run without the loss as a variant of a table file."""
    return ", ".join(f"{key}: {value}" for key, value in (("coefficient", run.coefficient), *run.options))


def published_ap(experiments: Experiments, table: Table) -> dict[str, dict[str, float]]:
    """AP that is published with the weights of a table's published detectors, by detector and headline."""
    detectors = {run.detector: run.scale for run in table.runs if run.coefficient == PUBLISHED}
    return {
        name: model_of(experiments.read("scale", scale)["published"][name], experiments.root).ap
        for name, scale in detectors.items()
    }


def make_run(scale: str, dataset: str, detector: str, variant: dict, seed: int) -> Run:
    """The run of one variant of a row."""
    # As a float, a strength of 1 and one of 1.0 give the same identity.
    options = tuple(
        (key, float(variant[key]) if key == "strength" else variant[key])
        for key in sorted(OPTION_NAMES)
        if key in variant
    )
    weight = float(variant.get("weight", 0.0))
    return Run(scale, dataset, detector, variant["coefficient"], weight, seed, options)
