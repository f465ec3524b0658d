"""Write docs/bad_input.md: everything wrong that the tests try, and what becomes of it.

python tests/bad_input/page.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from bad_input import data_sets, experiments, results  # noqa: E402

from corrloss.coco.findings import ERRORS, WARNINGS  # noqa: E402

HEAD = """\
# Bad input that is tried

The tests break a good file in each of these ways and look what is said. `python tests/bad_input/page.py`
writes this page; a test compares the two. The loss's own arguments are in `tests/test_coefficients.py`,
`test_ranks.py` and `test_loss.py`, downloads and archives in `tests/data/test_download.py`, weights and
checkpoints in `tests/engine`.

## Data sets: `corrloss check-data`

All that is wrong is reported at once, each kind with its count and the first examples, which name file and
entry. An **error** ends the command and no training starts; a **warning** is stated and counted
([what each kind means](data.md)).

| bad | found | |
| --- | --- | --- |
"""
REST = """
## Everything else: one message that names the file

The command ends with exit code 1 and one message that begins with `error:`, names the file and holds the
words shown; no output is written, and nothing of a file is run.
"""
HOSTILE = """
## What a file cannot do

| what | how | tested in |
| --- | --- | --- |
| run code by weights, checkpoints, arrays | `weights_only=True`, `allow_pickle=False`, no module reads \
pickles | `tests/engine/test_weights.py`, `tests/test_security.py`, above |
| run code by a run's config, a table, a scale | read as values; YAML's safe loader | \
`tests/plan/test_configs.py`, `tests/test_security.py` |
| reach a shell | each value in a rule's command is quoted; names of files in `experiments/` are letters, \
digits and underscores | `tests/workflow/test_hostile_names.py`, `tests/plan/test_schema.py` |
| lead out of its folder | file names of images and members of archives are looked at first | above, \
`tests/data/test_download.py` |
| become part of a page | escaped in the report, whose policy lets no other script run; in Markdown, too | \
`tests/report/test_page.py`, `tests/tables/test_render.py` |

**Trusted**, since they are Python: the files of `experiments/detectors` and `experiments/datasets`, and
mmdet's own configs that they extend.
"""


def text() -> str:
    """The whole page."""
    cases = data_sets.BAD_ANNOTATIONS | data_sets.BAD_FILES
    lines = [
        f"| {name} | {', '.join(f'`{kind}`' for kind in expected)} | {_outcome(expected)} |"
        for name, (_, expected) in cases.items()
    ]
    areas = [_area(area) for area in (*results.AREAS, *experiments.AREAS)]
    return HEAD + "\n".join(lines) + "\n" + REST + "".join(areas) + HOSTILE


def number_of_bad_data_sets() -> int:
    """How many bad data sets there are."""
    return len(data_sets.BAD_ANNOTATIONS) + len(data_sets.BAD_FILES)


def _outcome(kinds: dict[str, int]) -> str:
    assert kinds.keys() <= WARNINGS.keys() or kinds.keys() <= ERRORS.keys()
    return "warning" if kinds.keys() <= WARNINGS.keys() else "error"


def _area(area: results.Area) -> str:
    read_by = f"`{area.file}`, read by `corrloss {area.command.split()[0]}`"
    rows = "".join(f"| {name} | {_code(said)} |\n" for name, (_, said) in area.cases.items())
    return f"\n### {area.title}\n\n{read_by}\n\n| bad | said |\n| --- | --- |\n{rows}"


def _code(said: str) -> str:
    return f"`{said.strip()}`".replace("|", "\\|").replace("``", "`` ` ``") if said else ""


if __name__ == "__main__":
    (ROOT / "docs" / "bad_input.md").write_text(text(), encoding="utf-8")
