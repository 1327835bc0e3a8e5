"""Tables in LaTeX compile, are as wide as the text at most, and print every sign of a name."""

import re
import shutil
import subprocess

import pytest

from sam2ft.report.papers.latex_tables import latex, latex_text
from sam2ft.report.papers.tables import COUNTS, Cell, PaperRow, PaperTable

CELL = Cell(0.912, 0.021, 0.901, 0.923)
DISTANCE = Cell(12.345, 101.5, 10.25, 123.75)
LONG = "module.optimizer.lr=0.0001,module.loss.seg=TverskyLoss,datamodule.max_subject_set=12_x"


def table(names=("a", "b"), settings=0, measures=4, setting=0.5, cell=CELL):
    heads = ("point", *(f"setting_{number}" for number in range(settings)), *COUNTS)
    rows = tuple(
        PaperRow((name, *(setting for _ in range(settings)), 4, 10, 0), (cell,) * measures, bold=number == 1)
        for number, name in enumerate(names)
    )
    words = ("Dice per slice", "Dice per volume", "IoU per slice", "mean surface distance [mm]")
    return PaperTable("points", "Dataset a_b: [50 %] & more.", heads, (words * 3)[:measures], rows)


SHAPES = {
    "small": table(),
    "with an empty cell": table(cell=None),
    "many measures": table(measures=9, cell=DISTANCE),
    "some settings": table(settings=3),
    "many settings": table(settings=9, setting="null"),
    "long names": table(names=(LONG, LONG + "[y]")),
    "long settings": table(settings=4, setting=LONG),
    "too many long settings": table(settings=12, setting=LONG),
    "many points": table(names=tuple(f"point {number}" for number in range(70))),
    "many long points": table(names=tuple(f"{LONG}{number}" for number in range(40)), measures=6),
    "no points": table(names=()),
    "hostile": table(names=("<img src=x onerror=alert(1)>", "[50%_a&b$#{}~^\\")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_table_compiles_and_is_not_wider_or_higher_than_its_page(shape, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    if any(subprocess.run(["kpsewhich", f"{name}.sty"], check=False).returncode for name in ("booktabs", "rotating")):
        pytest.skip("no booktabs or rotating here")
    head = "\\documentclass{article}\\usepackage{booktabs,rotating}\\usepackage[utf8]{inputenc}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{latex([SHAPES[shape]])}\\end{{document}}\n")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    log = (tmp_path / "t.log").read_text("latin-1")
    assert "Overfull" not in log
    assert "Float too large" not in log


@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_and_measure_of_a_table_is_in_one_of_its_parts(shape):
    given = SHAPES[shape]
    text = latex([given])
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") >= 1
    cells = sum(len(row.cells) for row in given.rows)
    printed = text.count("12.345") + text.count("0.912") + len(re.findall(r" & --", text))
    assert printed == cells
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels))
    for line in text.splitlines():
        if line.endswith("\\\\"):
            plain = line.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
            assert plain.count("{") == plain.count("}")


def test_a_wide_table_is_turned_and_a_small_one_is_not():
    assert "\\begin{table}" in latex([table(measures=2)])
    assert "\\begin{sidewaystable}" in latex([SHAPES["some settings"]])


def test_a_part_of_a_table_says_that_it_continues():
    text = latex([SHAPES["many points"]])
    parts = text.count("\\begin{sidewaystable}")
    assert parts > 1
    assert text.count("Dataset a\\_b: {[}50 \\%] \\& more.") == 1
    assert text.count("Dataset a\\_b: continued.") == parts - 1


def test_latex_prints_every_sign_of_a_name():
    assert latex_text("[50%_a&b$#{}~^\\") == r"{[}50\%\_a\&b\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"


def test_a_negative_number_has_a_minus_and_no_hyphen():
    text = latex([table(cell=Cell(-0.5, 0.1, -0.75, -0.25))])
    assert "$-$0.500 $\\pm$ 0.100" in text
    assert "[$-$0.750, $-$0.250]" in text


def test_measures_stand_side_by_side_where_shorter_lines_of_a_name_make_room():
    text = latex([table(names=("lr=0.001,image_encoder=true", "lr=0.001,image_encoder=false"), settings=2)])
    assert text.count("\\begin{sidewaystable}") <= 2
