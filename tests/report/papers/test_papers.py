"""Methods text, checklist, model card and tables for papers: said is what was done, and names stay text."""

import re
from dataclasses import replace
from io import BytesIO

import pytest
from fixtures.experiments import parse_experiment

from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.papers.checklist import TOPICS, claim_checklist
from sam2ft.report.papers.latex_tables import latex
from sam2ft.report.papers.markdown import code_text, escaped_text, markdown_list, markdown_table
from sam2ft.report.papers.methods import BIBLIOGRAPHY, cited, methods_text, references
from sam2ft.report.papers.model_card import model_card
from sam2ft.report.papers.study import DatasetFacts, EvaluationFacts, PairedTests, Study
from sam2ft.report.papers.tables import paper_tables, tables_markdown, workbook

HOSTILE = "<img src=x onerror=alert(1)>"


def experiment(**module):
    given = {"sam2_model_cfg": "sam2_nano", "image_size": 256, "optimizer": {"type": "SGD", "lr": 0.01}}
    value = {"experiment": {"name": "knee"}, "dataset": {"oai": {"store": "data/oai"}}, "module": given | module}
    return parse_experiment(value)


DATA = DatasetFacts(
    name="oai",
    anatomy="knee",
    labels=("femoral cartilage", HOSTILE),
    subjects={"train": 6, "val": 2, "test": 4},
    volumes={"train": 7, "val": 2, "test": 4},
    slices={"train": 119, "val": 34, "test": 68},
    pixel_mm=(0.31, 0.36),
    slice_mm=(0.7, 0.7),
    split_seed=42,
    fields={"field strength (T)": ("3", "1.5")},
)


@pytest.fixture
def rows(global_row):
    found = []
    for run, mean in (("base", 0.70), ("run-0", 0.91), ("run-1", 0.93)):
        for measure in ("dice_slice_mean", "dice"):
            found.append(global_row(run, mean, measure=measure, n_missed=2))
            found.append(global_row(run, mean - 0.1, measure=measure, label=1, label_name=HOSTILE, n_missed=2))
    return found


@pytest.fixture
def comparison(rows):
    points = [
        PointRun(None, "baseline", "base"),
        PointRun(0, "lr=0.1", "run-0", (("module.optimizer.lr", 0.1),), validation=0.2),
        PointRun(1, "lr=0.01_x", "run-1", (("module.optimizer.lr", 0.01),), validation=0.3),
    ]
    return compare(points, rows)


def protocol_name(section):
    """The name of the prompts of an evaluation in tables."""
    return protocol_class(section.protocol)(section).name() if section.protocol != "boxes_file" else "boxes_file"


@pytest.fixture
def study(comparison):
    def make(given=None, **changes):
        chosen = given or experiment()
        made = Study(
            experiment="knee",
            settings=chosen,
            data=(DATA,),
            comparison=comparison,
            shown=comparison.best,
            slices_per_step=4,
            epochs=8,
            best_epoch=6,
            weights_sha256="a" * 64,
            weights_name="sam2.1_hiera_tiny.pt",
            versions={"python": "3.11", "sam2ft": "0.1", "torch": "2.14"},
            measures=("dice", "dice_slice_mean"),
            evaluations=(EvaluationFacts(chosen.eval, protocol_name(chosen.eval), {"oai": (4, 4)}, 2, 0, 5, 1),),
            tests=PairedTests(num_points=1, baseline=True, largest_family=2, sizes=(4,), num_labels=1, ranked=4),
            sample_sizes=(4,),
        )
        return replace(made, **changes)

    return make


@pytest.mark.parametrize("words", ["", "patella in 3 of 12 subjects", "a_b in 1 of 12 subjects (1 of 13 volumes)"])
def test_the_text_says_which_labels_were_not_drawn_in_all_subjects(study, words):
    text = methods_text(study(data=(replace(DATA, drawn=words),)))
    told = f"Not every label was drawn in every subject ({escaped_text(words)}): where a label was not drawn, it was"
    assert (told in text) is bool(words)
    assert ("Not every label" in text) is bool(words)


def test_the_text_says_what_the_configuration_says(study):
    text = methods_text(study(experiment(trainable={"image_encoder": False, "mask_decoder": True}, clip_grad=None)))
    assert "We fine-tuned the mask decoder; everything else was frozen." in text
    assert "minimised it with SGD (learning rate 0.01" in text
    assert "4 slices per step" in text
    assert "clipped" not in text
    assert "12 subjects: training 6 subjects (7 volumes, 119 slices); validation 2" in text
    assert f"started from the weights `sam2.1_hiera_tiny.pt` (SHA-256 `{'a' * 64}`)" in text
    assert "epoch 6; a later epoch had to be better by more than 0.001" in text


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ({"clip_grad": 1.0}, "clipped to a norm of 1."),
        ({"scheduler": {"type": "StepLR", "step_size": 3}}, "followed `StepLR` (step_size 3"),
        ({"ema": {"decay": 0.99}}, "exponential moving average over steps (decay 0.99 per step)"),
        ({"optimizer": {"type": "AdamW", "lr": 0.1}}, "AdamW [@loshchilov2019adamw]"),
        ({"loss": {"iou_weight": 0.5}}, "0.5 x error of the predicted IoU"),
        ({"loss": {"frame": "decoder"}}, "on the grid of the mask decoder"),
        (
            {"early_stopping": {"enabled": False}},
            "Training ran for 8 epochs (of at most 100). We kept the epoch with the lowest `val_loss`",
        ),
        (
            {"prompts": {"box": 0.5, "point": 0.5}},
            "boxes of the reference (50%), each side moved outward by 0 to 5 pixels at random; points (50%) drawn",
        ),
        (
            {"lora": {"rank": 4}, "trainable": {"image_encoder": False}},
            "low-rank updates (rank 4, alpha 16) of the image encoder",
        ),
    ],
)
def test_each_setting_has_its_sentence_only_when_it_is_on(study, module, words):
    plain = {"clip_grad": None, "use_amp": False, "optimizer": {"type": "SGD", "lr": 0.01}}
    assert words in methods_text(study(experiment(**(plain | module))))
    if "enabled" not in str(module):
        assert words not in methods_text(study(experiment(**plain)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"protocol": "box", "bbox_shift": 3},
            "in the reference, each side moved outward by 0 to 3 pixels of the original image at random: what a user",
        ),
        ({"protocol": "point"}, "the pixel deepest inside each connected component"),
        ({"protocol": "points", "points_k": 5}, "5 points inside each connected component"),
        ({"protocol": "mask"}, "the reference mask of each connected component"),
        ({"protocol": "boxes_file", "boxes_file": "boxes.csv"}, "the boxes of a detector"),
        (
            {"protocol": "propagate"},
            "in one slice (the largest one), carried through the volume by the video predictor",
        ),
        ({"instances": "per_label"}, "the bounding box of each label of a slice in the reference"),
        ({"split": "val"}, "On the validation subjects"),
    ],
)
def test_each_protocol_has_its_words(study, given, words):
    assert words in methods_text(study(experiment_with(eval=given)))


def test_what_is_known_of_a_run_is_said_and_a_name_stays_in_its_sentence(study):
    text = methods_text(
        study(
            biomarkers=(("t2", "mean"), ("t2", "median"), ("tissueheight", "height"), ("tissuevolume", "volume")),
            commits=("abc", "def with uncommitted changes"),
            machines=("8 cores, a\n### b",),
        )
    )
    assert "Machines: `8 cores, a\ufffd### b`." in text
    assert "T2 (mean and median) is over the voxels" in text
    assert "Tissue height (height) is the area of the tissue" in text
    assert "(commit `abc` and `def with uncommitted changes`) on Python 3.11" in text
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == [
        *("Data", "Model", "Training", "Evaluation", "Biomarkers", "Statistics", "Software"),
    ]


@pytest.mark.parametrize(
    ("trained_on", "words"),
    [
        (("not recorded",), "Trainings were computed on: `not recorded`."),
        (("2 x A100, bf16 (3 runs)", "1 x <b> (1 run)"), "on: `2 x A100, bf16 (3 runs)` and `1 x <b> (1 run)`."),
    ],
)
def test_the_texts_say_on_what_was_computed_and_how_often(study, rows, comparison, trained_on, words):
    known = study(training_hardware=trained_on, evaluation_hardware=("1 x CPU, fp32",))
    text = methods_text(known)
    assert words in text
    assert "Evaluations were computed on: `1 x CPU, fp32`." in text
    card = model_card(known, rows, None)
    assert f"- trainings computed on: `{trained_on[0]}`" in card
    assert "- evaluations computed on: `1 x CPU, fp32`" in card
    untrained = replace(known, shown="base", comparison=replace(comparison, best=None))
    assert "rainings" not in methods_text(untrained) + model_card(untrained, rows, None)
    assert "were computed on: " not in methods_text(study())


def test_what_was_only_evaluated_was_not_trained(study, comparison):
    none = replace(comparison, lines=tuple(line for line in comparison.lines if line.point.index is None), best=None)
    text = methods_text(study(shown="base", comparison=none, tests=PairedTests()))
    assert "nothing was trained" in text
    assert "### Training" not in text
    assert "Wilcoxon" not in text


def test_every_citation_has_its_entry_and_nothing_else_is_listed(study):
    text = methods_text(
        study(
            biomarkers=(("cartilagethickness", "ThCcAB"), ("t2", "mean")),
            measures=("hd95_surfel_mm",),
            sample_sizes=(12,),
        )
    )
    keys = cited(text)
    assert {"ravi2025sam2", "eckstein2006", "efron1987", "nikolov2021surface"} <= set(keys)
    entries = re.findall(r"^@\w+\{(\w+),", references(text), re.MULTILINE)
    assert entries == sorted(keys)


def test_the_bibliography_is_valid_bibtex():
    text = BIBLIOGRAPHY.read_text("utf-8")
    for entry in text.strip().split("\n}\n"):
        assert entry.count("{") == entry.count("}") + (0 if entry.endswith("}") else 1), entry
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert references(" ".join(f"[@{key}]" for key in keys)) == text
    assert len(re.findall(r"year = \{(\d{4})\}", text)) + 1 == len(keys) == len(set(keys)) == 20
    assert "others" not in text
    assert "version 1.2" in references("[@sam2ft]", "1.2")


def test_every_sentence_ends(study):
    for line in methods_text(study()).splitlines():
        if line and not line.startswith(("#", "*")):
            assert line.endswith("."), line
            assert "  " not in line


def test_the_checklist_has_all_44_items_and_leaves_the_authors_to_the_author(study):
    text = claim_checklist(study())
    lines = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert len(TOPICS) == 44
    assert [int(line.split("|")[1]) for line in lines] == list(range(1, 45))
    by_item = {int(line.split("|")[1]): line for line in lines}
    assert "☐ author" in by_item[44]
    assert "seed 42" in by_item[19]
    assert "field strength (T): 3 and 1.5" in by_item[13]
    assert "☑" not in by_item[30]
    noisy = experiment_with(eval={"prompt_noise": {"shifts": [0, 2, 5]}})
    assert "0, 2 and 5 pixels" in claim_checklist(study(noisy))


def experiment_with(**sections):
    value = {"experiment": {"name": "knee"}, "dataset": {"oai": {"store": "d"}}}
    return parse_experiment(value | {"module": {"sam2_model_cfg": "sam2_nano", "image_size": 256}} | sections)


def test_the_card_shows_results_of_the_chosen_point_alone(study, rows):
    text = model_card(study(), rows, "b" * 64)
    assert "0.910 ± 0.100" in text
    assert "0.930" not in text
    assert "b" * 64 in text
    assert "must not be used for diagnosis" in text


def test_names_of_users_are_text_everywhere(study, rows, comparison):
    made = paper_tables(comparison, rows, comparison.best)
    for text in (
        methods_text(study()),
        claim_checklist(study()),
        model_card(study(), rows, None),
        tables_markdown(made),
    ):
        outside_code = re.sub(r"`+[^`]*`+", "", text)
        assert "<img" not in outside_code
    assert "<img" not in latex(made)


def test_the_table_of_points_is_bold_where_validation_chose(comparison, rows):
    points, labels = paper_tables(comparison, rows, comparison.best)
    assert [row.bold for row in points.rows] == [False, True, False]
    assert points.rows[1].cells[0].text == "0.910 ± 0.100 [0.751, 1.000]"
    assert points.rows[1].cells[2] is None
    assert "In bold: the point chosen by validation (lowest val_loss among 2 of 2 points" in points.caption
    assert "prompted with the reference's own box in every slice: an upper bound" in points.caption
    assert points.text_heads == ("point", "lr", "n", "missed", "spurious")
    assert [row.texts for row in points.rows] == [
        ("baseline", "–", 4, 2, 0),
        ("lr=0.1", 0.1, 4, 2, 0),
        ("lr=0.01_x", 0.01, 4, 2, 0),
    ]
    assert [row.texts for row in labels.rows] == [(HOSTILE, 4, 2, 0), ("mean of labels", 4, 2, 0)]
    assert "distances" not in labels.caption


@pytest.mark.parametrize(
    ("n", "sd", "interval", "words"),
    [
        (2, 0.01, (0.820, 1.0), "by Student's t, because there are fewer than 10 subjects"),
        (9, 0.1, (0.833, 0.987), "by Student's t, because there are fewer than 10 subjects"),
        (10, 0.1, (0.5, 0.9), "[95 % bootstrap confidence interval]"),
        (1, None, None, ""),
    ],
)
def test_cells_cards_and_workbooks_show_the_interval_that_the_caption_names(
    study, comparison, rows, n, sd, interval, words
):
    from openpyxl import load_workbook

    given = [{**row, "n": n, "sd": sd, **({} if sd else {"ci_low": None, "ci_high": None})} for row in rows]
    compared = compare([line.point for line in comparison.lines], given)
    made = paper_tables(compared, given, compared.best)
    for table, row in zip(made, (1, 1), strict=True):
        cell = table.rows[row].cells[0]
        assert words in table.caption
        assert ("standard deviation" in table.caption) == (n > 1)
        assert (cell.ci_low, cell.ci_high) == (pytest.approx(interval, abs=1e-3) if interval else (None, None))
    text = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "0.910"
    assert text.replace("[", "\\[") in tables_markdown(made)
    assert text in latex(made)
    card = model_card(replace(study(), comparison=compared), given, None)
    assert text.replace("[", "\\[") in card
    assert words.strip("[]") in card
    sheet = load_workbook(BytesIO(workbook(made))).worksheets[0]
    heads = [cell.value for cell in sheet[2]]
    shown = [sheet.cell(4, 1 + heads.index(f"Dice per slice CI {end}")).value for end in ("low", "high")]
    assert shown == (pytest.approx(list(interval), abs=1e-3) if interval else [None, None])


def test_the_table_of_labels_has_the_name_of_the_point_that_was_evaluated_so(global_row):
    named = {"box": "b" * 12, "point": "p" * 12}
    given = [
        global_row("run-0", 0.9, eval=eval_id, protocol=protocol, label=label, label_name=name)
        for protocol, eval_id in named.items()
        for label, name in ((None, "mean_of_labels"), (1, "bone"))
    ]
    points = [
        PointRun(n, f"protocol={one}", "run-0", (("eval.protocol", one),), validation=0.1, eval=eval_id)
        for n, (one, eval_id) in enumerate(named.items())
    ]
    captions = [table.caption for table in paper_tables(compare(points, given), given, "run-0")]
    assert [len(table.rows) for table in paper_tables(compare(points, given), given, "run-0")] == [1, 1, 2, 2]
    assert "prompt box, protocol=box" in captions[2]
    assert "prompt point, protocol=point" in captions[3]


def test_a_table_of_large_and_small_groups_says_which_has_which_interval(comparison, rows):
    given = [{**row, "n": 4 if row["label"] is not None else 12} for row in rows]
    compared = compare([line.point for line in comparison.lines], given)
    points, labels = paper_tables(compared, given, compared.best)
    assert "[95 % bootstrap confidence interval]" in points.caption
    assert "by Student's t below 10 subjects, else by bootstrap" in labels.caption


def test_a_caption_says_what_a_distance_of_a_missed_label_is(comparison, rows, global_row):
    distances = [global_row("run-0", 3.0, measure="hd95_mm", label=1, label_name=HOSTILE)]
    *_, labels = paper_tables(comparison, [*rows, *distances], comparison.best, 12.5)
    assert "counts as 0 in overlaps and as 12.5 mm in distances" in labels.caption


def test_without_a_chosen_point_the_caption_says_that_nothing_is_bold(comparison, rows):
    nothing = replace(comparison, best=None, choice="no point has finished")
    points = paper_tables(nothing, rows, None)[0]
    assert "No line is in bold: no point has finished." in points.caption
    assert not any(row.bold for row in points.rows)


def test_markdown_tables_have_as_many_cells_in_every_line(comparison, rows):
    text = tables_markdown(paper_tables(comparison, rows, comparison.best))
    for block in re.split(r"\n\n", text):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1


def test_formulas_in_names_stay_text_in_the_workbook(comparison, rows):
    from openpyxl import load_workbook

    evil = replace(
        comparison, lines=tuple(replace(line, point=replace(line.point, name="=1+1")) for line in comparison.lines)
    )
    book = load_workbook(BytesIO(workbook(paper_tables(evil, rows, comparison.best))))
    cells = [cell for sheet in book for line in sheet.iter_rows() for cell in line]
    assert [cell for cell in cells if cell.data_type == "f"] == []
    evil_cells = [cell for cell in cells if cell.value == "=1+1"]
    assert len(evil_cells) >= 3
    # A user who edits the cell does not make a formula of it either.
    assert all(cell.quotePrefix for cell in evil_cells)
    assert not any(cell.quotePrefix for cell in cells if not str(cell.value).startswith(("=", "-", "+", "@")))
    assert any(isinstance(cell.value, float) and cell.value == pytest.approx(0.91) for cell in cells)
    # Settings and counts are numbers too.
    sheet = book.worksheets[0]
    assert [type(sheet.cell(4, column).value) for column in (2, 3, 4, 5)] == [float, int, int, int]


def test_inline_code_holds_backticks_and_tables_hold_bars():
    assert code_text("a`b") == "``a`b``"
    assert code_text("`a") == "`` `a ``"
    assert escaped_text("a|b*c<d") == r"a\|b\*c&lt;d"
    assert markdown_table(["a"], [["`x|y`"]]) == "| a |\n| --- |\n| `x\\|y` |\n"
    assert [markdown_list(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
