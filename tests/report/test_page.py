import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pandas as pd
import pytest
from finished_project import HOSTILE
from typer.testing import CliRunner

from corrloss.analysis.record import make_record
from corrloss.analysis.stored_run import load_run
from corrloss.cli import app
from corrloss.report.page import render
from corrloss.tables.records import runs_frame

PANELS = ("forest-weight", "forest-pair", "correlation", "density", "thresholds", "bounds", "weight", "tide",
          "training", "soft-ranks")  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, the text of scripts, figures by panel."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.figures, self.text = [], [], {}, ""
        self.panel = self.open_script = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag == "section":
            self.panel = attributes["id"]
        if tag == "script":
            self.open_script = attributes.get("type", "")
            self.scripts += [] if self.open_script else [""]

    def handle_endtag(self, tag):
        if tag == "script":
            self.open_script = None

    def handle_data(self, data):
        if self.open_script:
            self.figures.setdefault(self.panel, []).append(json.loads(data))
        elif self.open_script == "":
            self.scripts[-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def seen(page):
    return Page(page)


def test_every_figure_is_there_and_has_data(seen):
    assert {*PANELS, *(f"terms-{number}" for number in range(6))} == seen.figures.keys()
    for figures in seen.figures.values():
        for figure in figures:
            assert figure["data"]
    per_detector = [len(seen.figures[name]) for name in ("thresholds", "tide", "training")]
    assert per_detector == [2, 2, 2] and len(seen.figures["bounds"]) == 2
    before_and_after = seen.figures["density"]
    assert [sum(trace["type"] == "heatmap" for trace in one["data"]) for one in before_and_after] == [2] * 4


def test_every_cell_of_the_tables_is_on_the_page(seen, project):
    cells = [attributes["data-value"] for tag, attributes in seen.elements if tag == "td"]
    for table in project.tables():
        for value in table.frame["AP"]:
            assert str(value) in cells
    assert sum(tag == "select" and a["class"] == "filter" for tag, a in seen.elements) == 4


def test_every_run_has_its_record_and_examples(seen, project):
    for run in project.runs():
        assert run.run.name in seen.text
    images = [attributes["src"] for tag, attributes in seen.elements if tag == "img"]
    assert len(images) == 6 * 4
    for image in images:
        kind, _, content = image.partition(",")
        assert kind == "data:image/jpeg;base64" and base64.b64decode(content).startswith(b"\xff\xd8")


def test_a_run_that_failed_is_told_and_its_training_shown(project, tmp_path):
    copy = type(project)(shutil.copytree(project.root, tmp_path / "copy"))
    chosen = next(run.run for run in copy.runs() if run.run.detector == "sparse_rcnn" and run.run.weight)
    folder, reason = chosen.folder(copy.results), f"loss is nan at iteration 7 {HOSTILE}"
    training = folder.read_training()
    training["curve"][-1]["loss"] = float("nan")
    folder.write_training(training | {"failed": reason})
    for path in (folder.detections(), folder.bound("best"), folder.bound("worst")):
        path.write_text("[]")
    annotations = copy.root / "data/mini_coco/annotations/instances_val.json"
    record = make_record(chosen.name, "0" * 12, folder, load_run(folder, annotations))
    folder.write_record(record)
    runs = [(run.run, run.record) for run in copy.runs()]
    runs_frame(runs).to_csv(copy.folder / "runs.csv", index=False)
    page = render("mini", copy.tables(), copy.runs(), copy.data())
    seen = Page(page)
    assert f"This training failed: {reason}" in seen.text and f"{copy.runs()[-1].label}: failed" in seen.text
    assert [len(seen.figures[name]) for name in ("training", "tide", "density")] == [2, 2, 4]
    assert len(seen.figures["training"][1]["data"]) == 2 and len(seen.figures["tide"][1]["data"]) == 1
    assert not re.search(r"[:,\[]NaN", page[: page.index("</main>")])  # which no browser reads as JSON


def test_nothing_is_fetched(seen):
    for tag, attributes in seen.elements:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg"))


def test_a_browser_runs_the_two_scripts_of_the_page_and_no_other(seen):
    policy = next(a["content"] for _, a in seen.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in seen.scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests and len(digests) == 2
    script_sources = policy.split("script-src")[1].split(";")[0]
    assert "unsafe" not in script_sources


def test_names_from_data_stay_text(seen):
    assert seen.text.count(HOSTILE) == 1 + 6  # a table's title, and a cell of each row
    assert seen.text.count(json.dumps(HOSTILE)) == 2 * 6  # the machines in each record
    assert not any("onerror" in attributes for _, attributes in seen.elements)
    named = [trace["name"] for trace in seen.figures["terms-0"][0]["data"]]
    assert any(name.startswith("&lt;/script&gt;") for name in named)  # Plotly reads tags in names
    assert not any("<" in name for name in named)


def test_names_of_files_classes_metrics_and_notes_stay_text(project, tmp_path):
    """Whatever a data set or a record calls its things, the page has no element or attribute more."""
    hostile = '"><script>alert(3)<img src=x onerror=alert(4)>'
    copy = type(project)(shutil.copytree(project.root, tmp_path / "copy"))
    annotations = copy.root / "data/mini_coco/annotations/instances_val.json"
    document = json.loads(annotations.read_text())
    for number, image in enumerate(document["images"]):
        name = f"{number}{hostile}.png"
        (copy.root / "data/mini_coco/val" / image["file_name"]).rename(annotations.parents[1] / "val" / name)
        image["file_name"] = name
    for number, category in enumerate(document["categories"]):
        category["name"] = f"{number}{hostile}"
    annotations.write_text(json.dumps(document))
    for path in copy.folder.rglob("record.json"):
        record = json.loads(path.read_text())
        record["metrics"] |= {hostile: 1.0}
        path.write_text(json.dumps(record | {hostile: hostile, "commit": hostile}))
    table = copy.folder / "tables" / "weight.csv"
    frame = pd.read_csv(table)
    frame["verdict"] = frame[hostile] = hostile
    frame.to_csv(table, index=False)
    seen = Page(render("mini", copy.tables(), copy.runs(), copy.data()))
    assert not any({"onerror", "onload"} & attributes.keys() for _, attributes in seen.elements)
    assert not any(attributes.get("src") == "x" for _, attributes in seen.elements)
    assert len(seen.scripts) == 2 and not any("alert(3)" in script for script in seen.scripts)
    images = [attributes for tag, attributes in seen.elements if tag == "img"]
    assert len(images) == 6 * 4 and all(hostile in attributes["alt"] for attributes in images)
    assert seen.text.count(hostile) > 6 * 4


def test_below_scale_paper_the_page_warns_first(page, project):
    body = page[page.index("<body>") :]
    assert body.index("no evidence about the paper") < body.index("<table>")
    paper = render("paper", project.tables(), project.runs(), project.data())
    assert "no evidence" not in paper


def test_without_images_and_positives_the_page_says_so(project, tmp_path):
    copy = type(project)(shutil.copytree(project.root, tmp_path / "copy"))
    shutil.rmtree(copy.root / "data" / "mini_coco" / "val")
    for path in copy.folder.rglob("positives.npz"):
        path.unlink()
    seen = Page(render("mini", copy.tables(), copy.runs(), copy.data()))
    assert "density" not in seen.figures and "soft-ranks" not in seen.figures
    assert seen.text.count("The test images are not on the machine") == 6
    assert "No run has stored positives" in seen.text


def test_the_command_writes_the_page(project, tmp_path):
    copy = shutil.copytree(project.root, tmp_path / "copy")
    settings = [f"data_root={copy / 'data'}", f"results={copy / 'results'}"]
    done = CliRunner().invoke(app, ["report", *settings, f"--root={copy}"])
    assert done.exit_code == 0, done.output
    assert Page((copy / "results/mini/report.html").read_text()).figures.keys() >= set(PANELS)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def shown(page, folder):
    """What a browser made of a page: the document, and what it complained of."""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    command += [path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@in_a_browser
def test_a_browser_draws_every_figure_without_a_complaint(page, seen, tmp_path):
    document, complaints = shown(page.replace("<details>", "<details open>"), tmp_path)
    assert complaints == []
    assert document.count('class="js-plotly-plot') == len(seen.figures)  # one of each panel is shown


@in_a_browser
def test_tables_are_sorted_and_filtered_in_a_browser(page, tmp_path):
    """By a script of the test, which the page's own policy would keep out."""
    clicks = """
    const tables = [...document.querySelectorAll(".table")];
    const table = tables.find((one) => one.querySelectorAll("tr").length > 3);
    const column = [...table.querySelectorAll("th")].findIndex((one) => one.textContent.trim() === "AP");
    const rows = () => [...table.querySelectorAll("tbody tr:not([hidden])")];
    const column_of = (n) => rows().map((row) => row.cells[n].textContent);
    const button = table.querySelectorAll("th button")[column];
    const seen = [];
    button.click(); seen.push(column_of(column));
    button.click(); seen.push(column_of(column));
    const filter = table.querySelectorAll(".filter")[1];
    filter.value = "spearman"; filter.dispatchEvent(new Event("change")); seen.push(column_of(1));
    document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";
    """
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert open_page != page
    before, end, after = open_page.rpartition("</body>")
    document, complaints = shown(f"{before}<script>{{{clicks}}}</script>{end}{after}", tmp_path)
    rising, falling, filtered = json.loads(re.search('<pre id="seen">(.*?)</pre>', document)[1])
    assert complaints == []
    assert len(rising) == 4 and rising == sorted(rising, key=float) and falling == rising[::-1]
    assert filtered == ["spearman"] * 2
