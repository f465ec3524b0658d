import re

from corrloss.report.drawing import new_axes, page_style, to_svg, tooltip


def drawn(text="one"):
    with page_style():
        axes = new_axes(200, xlabel="score")
        (line,) = axes.plot([0.07123, 0.07456], [1 / 3, 2 / 3])
        axes.set_xticks([0.0712, 0.0745], ["0.0712", "0.0745"])
        tooltip(line, text)
        return to_svg(axes, "figure", text)


def test_coordinates_lose_digits_and_texts_do_not():
    svg = drawn("ρ 0.12345")
    assert "0.0712</text>" in svg and "0.0745</text>" in svg and "<title>ρ 0.12345</title>" in svg
    paths = re.findall(r' d="([^"]*)"', svg)
    assert paths and not any(re.search(r"\.\d{3}", path) for path in paths)


def test_names_from_data_stay_text():
    svg = drawn('"><script>alert(1)</script><g id="')
    assert "<script" not in svg and svg.count("<title>") == 1
    assert "&lt;script&gt;" in svg
