"""The pages name only what exists. Links between pages of the site are checked by `make docs`."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("corrloss/", "tests/", "workflows/", "experiments/", "benchmarks/", "docs/", "config/")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page):
    """What a page puts into code style, and the lines of its code blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*(re.sub(r"\s+", " ", name) for name in inline), *"\n".join(blocks).splitlines()]


def is_defined(name):
    """Whether a dotted name is a module of the repository, or a word in the module before its last dot."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    above = [path.parent.with_suffix(".py"), path.parent / "__init__.py"]
    return any(re.search(rf"\b{path.name}\b", file.read_text()) for file in above if file.exists())


@every_page
def test_files_that_a_page_names_exist(page):
    files = {name.split("::")[0] for name in code(page) if name.startswith(FOLDERS) and " " not in name}
    assert not [name for name in files if "<" not in name and not list(ROOT.glob(name.rstrip("/")))]


@every_page
def test_modules_that_a_page_names_exist(page):
    dotted = [found for name in code(page) for found in re.findall(r"\bcorrloss(?:\.[A-Za-z_]\w*)+", name)]
    assert not [name for name in dotted if not is_defined(name)]


@every_page
def test_commands_that_a_page_names_exist(page):
    cli = (ROOT / "corrloss" / "cli.py").read_text()
    commands = {name.replace("_", "-") for name in re.findall(r"^def (\w+)\(", cli, re.MULTILINE)}
    named = [
        found for name in code(page) for found in re.findall(r"(?:^|\bin/)corrloss ([a-z][a-z-]*)", name)
    ]
    assert not set(named) - commands


@every_page
def test_settings_that_a_page_names_exist(page):
    settings = yaml.safe_load((ROOT / "config" / "config.yaml").read_text()).keys()
    calls = [name.split("#")[0] for name in code(page) if re.search(r"--config |^corrloss \w", name)]
    named = {key for call in calls for key in re.findall(r"(?<![-\w])(\w+)=", call) if key.islower()}
    assert named <= settings


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_the_readme_lists_every_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"\[start:tables\](.*)\[end:tables\]", text, re.DOTALL)
    tables = {path.stem for path in (ROOT / "experiments" / "tables").glob("*.yaml")}
    assert set(re.findall(r"`(\w+)`", listed)) == tables


def test_the_api_reference_has_every_public_module():
    listed = [
        name
        for page in (ROOT / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
    ]
    package = ROOT / "corrloss"
    modules = [path.relative_to(ROOT).with_suffix("") for path in package.rglob("[!_]*.py")]
    packages = [path.parent.relative_to(ROOT) for path in package.glob("*/__init__.py")]
    assert sorted(listed) == sorted(".".join(path.parts) for path in modules + packages)
