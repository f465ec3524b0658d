"""Files of `experiments/` with something wrong: what is done to one, and what must be said of it."""

from pathlib import Path

from bad_input.results import RUN, TABLE, Area, cut, text, whole

RESOLVE = f"resolve {RUN} --root ."
# A hundred million nodes: each line repeats the one before nine times.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


def added(line: str):
    """A line more at the end."""
    return lambda path: path.write_text(f"{path.read_text().rstrip()}\n{line}\n")


TABLE_CASES = {
    "empty": (whole(""), "expected a mapping, got nothing"),
    "no YAML": (text("title: ", "title: ["), "not readable as YAML"),
    "other bytes": (whole("title: ä".encode("latin-1")), "not readable as YAML"),
    "a duplicate key": (added("data: coco"), "duplicate key 'data'"),
    "an unknown key": (added("colour: red"), "unknown key 'colour'; valid keys: "),
    "50,000 brackets": (text("title: ", f"title: {'[' * 50_000}"), "expected at most 50 levels"),
    "aliases that multiply": (whole(BOMB), "at most 50 levels and 100000 nodes, aliases included, got more"),
    "an alias in its own anchor": (added("question: &a [*a]"), "alias *a before the end of its anchor"),
    "an impossible date": (added("question: 2024-13-45"), "month must be in 1..12"),
    "an integer of 5,000 digits": (added(f"question: {'9' * 5000}"), "not readable as YAML"),
    "no rows": (text("rows:", "lines:"), "'rows' is missing"),
    "an unknown detector": (text("detector: retinanet", "detector: retinent"), "got 'retinent'"),
    "an unknown coefficient": (
        text("coefficient: spearman", "coefficient: kendall"),
        "expected one of none, published, pearson, concordance, spearman, spearman_exact, got 'kendall'",
    ),
    "a weight of 0": (text("weight: 0.1", "weight: 0"), "weight: 0 is less than"),
    "a weight of NaN": (text("weight: 0.1", "weight: .nan"), "expected a finite number, got .nan"),
    "no weight": (text("    weight: 0.1\n", ""), "'weight' is missing"),
    "a baseline with a weight": (
        text("coefficient: none", "coefficient: none\n    weight: 0.1"),
        "weight: not allowed together with the other keys there",
    ),
    "no baseline": (text("  - coefficient: none\n", ""), "has no baseline in this table"),
    "an unknown scale": (added("scales: [huge]"), "got 'huge'"),
    "a negative seed": (added("seeds: {mini: [-1]}"), "-1 is less than the minimum of 0"),
    "no AP among the metrics": (text("- AP\n", "- AR\n"), "expected one of AP, mask_AP"),
    "a data set that the scale has not": (text("data: coco", "data: voc"), "got 'voc'"),
    "a file that it extends is missing": (added("extends: nothing"), "got 'nothing'"),
}

DETECTOR_CASES = {
    "empty": (whole(""), "'model' is missing"),
    "cut off": (cut, ""),
    "no Python": (text("correlation = ", "correlation = = "), "SyntaxError"),
    "no place for the loss": (text("correlation = ", "corelation = "), "'correlation' is missing"),
    "an unknown scope": (
        text('scope="level"', 'scope="epoch"'),
        "one of batch, level, image, got 'epoch'",
    ),
    "a place that is not there": (text("model.bbox_head", "model.box_head"), "the config has no 'box_head'"),
    "a base that is not there": (text("mmdet::", "mmdet::no/"), "not readable as an mmdet config"),
    "a class for a value": (added("extra = dict(kind=int)"), "at extra: must be plain"),
    "an infinite number": (added("extra = float('inf')"), "at extra: must be plain"),
    "no section for the scale": (text("mini = ", "minni = "), "has no dict `mini`"),
}

SCALE_CASES = {
    "empty": (whole(""), "expected a mapping, got nothing"),
    "no threads": (text("threads:", "treads:"), "'threads' is missing"),
    "threads in words": (text("threads: 1", "threads: many"), "expected a whole number, got 'many'"),
    "an unknown data set": (text("mini_coco", "tiny_coco"), "got 'tiny_coco'"),
    "a section that no detector has": (text("section: mini", "section: tiny"), "`tiny`"),
    "a key that is not mmdet's": (text("overrides:", "overrides:\n  modle: {}"), "unknown key 'modle'"),
}

DATASET_CASES = {
    "empty": (whole(""), "'folder' is missing"),
    "no Python": (text("folder = ", "folder = = "), "SyntaxError"),
    "no test images": (text("test = ", "tset = "), "'test' is missing"),
    "a folder that is a number": (added("folder = 3"), "expected text, got 3"),
    "images that are decoded in part": (
        added('check_images = "some"'),
        "one of all, sample, got 'some'",
    ),
}

REFERENCE_CASES = {
    "missing": (Path.unlink, "not readable as CSV"),
    "empty": (whole(""), "line 1: no column table"),
    "other bytes": (whole("Tabelle,Größe\n".encode("latin-1")), "not readable as CSV"),
    "a column that is missing": (text("source_kind", "kind"), "line 1: no column source_kind"),
    "a line cut short": (added("nms_free,COCO"), "fields, the header 19"),
    "an unknown kind of source": (text(",second-hand,", ",hearsay,"), "source_kind: 'hearsay'"),
    "a figure in words": (added(",,,,,,,,AP,high,x,primary,,coco,atss,none,0,,stated"), "value: 'high'"),
    "a figure without a source": (
        added(",,,,,,,,AP,1,,primary,,coco,atss,none,0,,stated"),
        "source: ''; needs a source for every figure",
    ),
    "two figures for one cell": (
        added("\n".join([",,,,,,,,AP,1,x,primary,,coco,tood,none,0,,stated"] * 2)),
        "a second figure for one cell",
    ),
}

AREAS = (
    Area("Tables", RESOLVE, "experiments/tables/weight.yaml", TABLE_CASES),
    Area("Detectors", RESOLVE, "experiments/detectors/retinanet.py", DETECTOR_CASES),
    Area("Scales", RESOLVE, "experiments/scales/mini.yaml", SCALE_CASES),
    Area("Data sets", RESOLVE, "experiments/datasets/mini_coco.py", DATASET_CASES),
    Area("Published figures", TABLE, "experiments/reference/paper.csv", REFERENCE_CASES),
)
