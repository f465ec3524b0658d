import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from finished_project import HOSTILE
from typer.testing import CliRunner

from corrloss.analysis.record import make_record
from corrloss.analysis.stored_run import load_run
from corrloss.cli import app
from corrloss.plan.identity import read_identity
from corrloss.report.page import render
from corrloss.report.results import MadeTable
from corrloss.report.table_views import table_view
from corrloss.tables.notes import table_notes
from corrloss.tables.records import runs_frame

PANELS = ("forest", "correlation", "explanation", "calibration", "density", "thresholds", "bounds",
          "weight", "tide", "training", "soft-ranks")  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, texts, drawings by panel and figure."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.figures, self.text, self.drawn = [], [], {}, "", ""
        self.panel, self.depth, self.in_script = None, 0, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.depth += tag == "svg"
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")
        if tag == "section":
            self.panel = attributes["id"]
        if tag == "figure" and attributes["class"] == "plot":
            self.figures.setdefault(self.panel, []).append(0)
        if tag == "svg" and "aria-label" in attributes and "plot" in self._figure():
            self.figures[self.panel][-1] += 1

    def _figure(self):
        return next(a["class"] for tag, a in reversed(self.elements) if tag == "figure")

    def handle_endtag(self, tag):
        self.depth -= tag == "svg"
        self.in_script = self.in_script and tag != "script"

    def handle_data(self, data):
        if self.in_script:
            self.scripts[-1] += data
        elif self.depth:
            self.drawn += f"{data}\n"
        else:
            self.text += data


@pytest.fixture(scope="module")
def seen(page):
    return Page(page)


def test_every_figure_is_drawn(seen):
    assert {*PANELS, *(f"terms-{number}" for number in range(6))} == seen.figures.keys()
    assert all(svgs > 0 for figures in seen.figures.values() for svgs in figures)
    per_detector = [len(seen.figures[name]) for name in ("thresholds", "tide", "training", "density")]
    assert per_detector == [2, 2, 2, 2] and len(seen.figures["bounds"]) == 2
    assert seen.figures["density"] == [4, 2]  # the baseline beside each variant


def test_every_cell_of_the_tables_is_on_the_page(seen, project):
    cells = [attributes["data-value"] for tag, attributes in seen.elements if tag == "td"]
    for table in project.tables():
        for value in table.frame["AP"]:
            assert str(value) in cells
    assert sum(tag == "select" and a["class"] == "filter" for tag, a in seen.elements) == 4


def test_the_page_opens_with_the_answer(page):
    body = page[page.index("<body>") :]
    parts = ("no evidence about the paper", "arxiv.org/abs/2301.01019", 'class="counts"', "one seed each",
             "holds for this pair of trained models only", 'id="forest"', "<table>", 'id="runs"')  # fmt: skip
    places = [body.index(part) for part in parts]
    assert places == sorted(places)


def test_gains_come_right_after_the_weight_and_the_rest_on_demand(seen):
    heads = [a["class"] for tag, a in seen.elements if tag == "th"]
    assert heads[:5] == ["always"] * 5 and {"wide", "on-demand"} == set(heads) - {"always"}
    assert "λ ΔAP 95% over images, this pair only seeds" in " ".join(seen.text.split())


def test_what_a_reader_must_know_is_below_each_table(seen, project):
    notes = [note for table in project.tables() for note in table_notes(table.frame)]
    assert len(notes) > 1 and all(" ".join(note.split()) in " ".join(seen.text.split()) for note in notes)


def test_the_interval_of_a_mean_over_detectors_is_marked(project):
    table = project.tables()[0]
    frame = pd.concat([table.frame, table.frame.iloc[1:2].assign(detector="mean of 3")])
    view = table_view(replace(table, frame=frame))
    texts = [text for column in view.columns if column.heading.startswith("95%") for text, _ in column.cells]
    assert [text.endswith("†") for text in texts] == [False] * (len(texts) - 1) + [True]
    assert view.notes[0] == "† Over images, seeds and detectors."


def test_several_seeds_show_both_errors_and_figures_of_many_detections_are_no_extra(project):
    table = project.tables()[0]
    frame = table.frame.assign(n_seeds=3, se_images=0.2, se_seeds=0.3, seeds_for_1_AP=6)
    frame = frame.rename(columns={"AP50": "AP50_1000"})
    view = table_view(MadeTable(replace(table.plan, max_detections=1000), frame))
    shown = {column.heading: column.when for column in view.columns}
    names = ("seeds", "se_images", "se_seeds", "seeds_for_1_AP", "AP50_1000")
    assert [shown[name] for name in names] == ["wide"] * 5
    assert not {"se_images", "se_seeds"} & {column.heading for column in table_view(table).columns[:6]}


def test_each_run_has_its_record_and_the_same_images_with_and_without_the_loss(seen, project):
    for run in project.runs():
        assert run.run.name in seen.text
    titles = [line.strip() for line in seen.text.splitlines()]
    assert titles.count("without the loss") == 6 * 4
    assert sum(title.startswith("with the loss: ") for title in titles) == 4 * 4
    images = [attributes for tag, attributes in seen.elements if tag == "image" and "href" in attributes]
    photographs = {attributes["id"]: attributes["href"] for attributes in images}
    assert len(images) == len(photographs) == 4  # each once, however many runs are drawn on it
    for source in photographs.values():
        kind, _, content = source.partition(",")
        assert kind == "data:image/jpeg;base64" and base64.b64decode(content).startswith(b"\xff\xd8")
    drawn = [a["href"] for tag, a in seen.elements if tag == "use" and "href" in a]
    assert len(drawn) == 6 * 4 + 4 * 4 and {f"#{name}" for name in photographs} == set(drawn)


def test_the_page_is_small(page):
    assert len(page.encode()) < 500_000


def test_drawings_take_their_colours_from_the_page(page):
    """So that text and axes are seen in the dark, too; and ids of two drawings never clash."""
    drawings = re.findall(r"<svg xmlns.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 27 + 2 + 2 * 4  # gains explained, calibration of each detector
    assert not any(re.search(r"#(000000|222222|ffffff|fefefe)\b", drawing) for drawing in drawings)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


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
    record = make_record(chosen.name, read_identity(folder.record), folder, load_run(folder, annotations))
    folder.write_record(record)
    runs = [(run.run, run.record) for run in copy.runs()]
    runs_frame(runs).to_csv(copy.folder / "runs.csv", index=False)
    page = render("mini", copy.tables(), copy.runs(), copy.data())
    seen = Page(page)
    assert f"This training failed: {reason}" in seen.text and f"{copy.runs()[-1].label}: failed" in seen.text
    assert [len(seen.figures[name]) for name in ("training", "tide", "density")] == [2, 2, 2]
    assert seen.figures["density"] == [4, 1] and seen.text.count("with the loss: ") == 3 * 4
    panel = re.findall(r'<section class="panel" id="(?:training|tide)">.*?</section>', page, re.DOTALL)
    legends = [[figure.count("<li>") for figure in one.split("<figure")[1:]] for one in panel]
    assert sorted(legends) == [[4, 1], [4, 2]]  # the failed run has a loss curve and no errors
    assert not re.search(r"\bnan\b", "".join(re.findall(r"<path[^>]*>", page)))


def test_nothing_is_fetched(seen, page):
    for tag, attributes in seen.elements:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/jpeg", "data:image/png")) or (tag, name) == (
                "a",
                "href",
            )
    assert {url[:1] for url in re.findall(r"url\((.)", page)} <= {"#"}


def test_a_browser_runs_the_script_of_the_page_and_no_other(seen):
    policy = next(a["content"] for _, a in seen.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in seen.scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests and len(digests) == 1
    script_sources = policy.split("script-src")[1].split(";")[0]
    assert "unsafe" not in script_sources


def test_names_from_data_stay_text(seen):
    assert seen.text.count(json.dumps(HOSTILE)) == 2 * 6  # the machines in each record
    # A table's title, a cell of each row, and a loss term in the legend of each run.
    assert seen.text.count(HOSTILE) == 1 + 6 + 6
    assert not any("onerror" in attributes for _, attributes in seen.elements)


def test_names_of_files_classes_and_notes_stay_text(project, tmp_path):
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
        path.write_text(json.dumps(record | {hostile: hostile, "commit": hostile}))
    table = copy.folder / "tables" / "weight.csv"
    frame = pd.read_csv(table)
    frame["verdict"] = frame[hostile] = hostile
    frame.to_csv(table, index=False)
    seen = Page(render("mini", copy.tables(), copy.runs(), copy.data()))
    assert not any({"onerror", "onload"} & attributes.keys() for _, attributes in seen.elements)
    assert not any(attributes.get("src") == "x" for _, attributes in seen.elements)
    assert len(seen.scripts) == 1 and "alert(3)" not in seen.scripts[0]
    labels = [attributes.get("aria-label", "") for tag, attributes in seen.elements if tag == "svg"]
    assert sum(hostile in label for label in labels) == 6 * 4 + 4 * 4
    assert seen.text.count(hostile) > 6 * 4


def test_below_scale_paper_the_page_warns_first(page, project):
    body = page[page.index("<body>") :]
    assert body.index("no evidence about the paper") < body.index("<table>")
    paper = render("paper", project.tables(), project.runs(), project.data())
    assert "no evidence" not in paper and "Compared with the published gains" in paper


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
    out = copy / "results/mini/report.html"
    text = out.read_text()
    assert Page(text).figures.keys() >= set(PANELS)
    readme = re.search('href="([^"]*)/README.md"', text)[1]
    assert (out.parent / readme).resolve() == copy.resolve()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def run_browser(page, folder, *options):
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", *options]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def evaluated(page, folder, script, *options):
    """What a script of the test finds on the page, whose own policy would keep the script out."""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert open_page != page
    before, end, after = open_page.rpartition("</body>")
    report = 'document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";'
    page = f"{before}<script>{{{script}; {report}}}</script>{end}{after}"
    document, complaints = run_browser(page, folder, "--dump-dom", *options)
    assert complaints == []
    return json.loads(html.unescape(re.search('<pre id="seen">(.*?)</pre>', document, re.DOTALL)[1]))


@in_a_browser
def test_a_browser_shows_one_figure_of_each_panel_without_a_complaint(page, seen, tmp_path):
    document, complaints = run_browser(page, tmp_path, "--dump-dom")
    assert complaints == []
    hidden = document.count('<figure class="plot" hidden="">')
    assert sum(map(len, seen.figures.values())) - hidden == len(seen.figures)


MEASURE = """
const visible = (element) => element.checkVisibility();
const plots = [...document.querySelectorAll("#forest .panels > svg")].filter(visible);
const gain = plots[0].querySelector("g > title").parentElement.getBoundingClientRect();
const seen = {
  page: document.documentElement.scrollWidth,
  plots: plots.length,
  forest: plots[0].getBoundingClientRect().width,
  gain: gain.left + gain.width / 2,
  text: Math.min(...[...plots[0].querySelectorAll("text")].map((one) => one.getBoundingClientRect().height)),
  delta: [...document.querySelectorAll("th")].find((one) => one.textContent.trim() === "ΔAP")
    .getBoundingClientRect().right,
  ink: getComputedStyle(plots[0].querySelector("text")).fill,
  paper: getComputedStyle(document.body).backgroundColor,
}
"""


@in_a_browser
@pytest.mark.parametrize("width", [1400, 500])  # Chromium's narrowest window; the phone's layout is below 640
def test_forest_and_gains_fit_the_width(page, tmp_path, width):
    seen = evaluated(page, tmp_path, MEASURE, f"--window-size={width},900")
    assert seen["page"] <= width and seen["plots"] == 1
    assert 300 < seen["forest"] <= width and 0 < seen["gain"] < width and seen["delta"] < width
    assert seen["text"] > 8


CUT = """
const plots = [...document.querySelectorAll(".panels > svg")].filter((one) => one.checkVisibility());
const hides = (one) => getComputedStyle(one).overflowX === "hidden";
const clips = (one) => one && (hides(one) || clips(one.parentElement));
const right = (one) => one.getBoundingClientRect().right;
const last = (plot) => Math.max(...[...plot.querySelectorAll("path, text, use")].map(right));
const cut = (one) => one.getBoundingClientRect().width < 150 || last(one) > innerWidth || clips(one);
const seen = {
  plots: plots.length,
  cut: plots.filter(cut).length,
  nav: document.querySelector("nav").checkVisibility(),
};
"""


@in_a_browser
def test_print_shows_every_plot_whole(page, seen, tmp_path):
    """The rules for print, at the width of A4 paper."""
    assert page.count("@media print") == 1
    printed = evaluated(page.replace("@media print", "@media all"), tmp_path, CUT, "--window-size=718,900")
    assert (printed["cut"], printed["nav"]) == (0, False)
    assert printed["plots"] == sum(
        figures[0] for name, figures in seen.figures.items() if "terms" not in name
    )


@in_a_browser
def test_in_the_dark_text_is_lighter_than_the_page(page, tmp_path):
    light = evaluated(page, tmp_path, MEASURE, "--blink-settings=preferredColorScheme=1")
    dark = evaluated(page, tmp_path, MEASURE, "--blink-settings=preferredColorScheme=0")

    def brightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness(light["ink"]) + 300 < brightness(light["paper"])
    assert brightness(dark["ink"]) > brightness(dark["paper"]) + 300


@in_a_browser
def test_tables_are_sorted_filtered_and_widened_in_a_browser(page, tmp_path):
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
    const shown = () => [...table.querySelectorAll("th")].filter((one) => one.checkVisibility()).length;
    const before = shown();
    table.querySelector(".all-columns").click();
    seen.push([before, shown(), table.querySelectorAll("th").length]);
    """
    rising, falling, filtered, (few, all_shown, columns) = evaluated(page, tmp_path, clicks)
    assert len(rising) == 4 and rising == sorted(rising, key=float) and falling == rising[::-1]
    assert filtered == ["spearman"] * 2
    assert few < all_shown == columns
