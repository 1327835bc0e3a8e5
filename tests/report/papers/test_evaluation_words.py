"""Sentences about evaluations, trainings, intervals and tests follow from what was recorded, and say no more."""

from typing import Any

import pytest
from fixtures.experiments import parse_experiment

from sam2ft.config.schema.evaluation import PROTOCOLS
from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.report.comparison.compare import ComparedEvaluation, Comparison, ComparisonRow, PointRun, Score
from sam2ft.report.papers.checklist import claim_checklist
from sam2ft.report.papers.evaluation_words import (
    comparison_sentences,
    distance_words,
    interval_sentences,
    missed_words,
    prompt_sentences,
    split_limit,
)
from sam2ft.report.papers.methods import methods_text
from sam2ft.report.papers.model_card import model_card
from sam2ft.report.papers.study import DatasetFacts, EvaluationFacts, PairedTests, Study
from sam2ft.report.papers.training_words import choice_sentences, model_words
from sam2ft.runs.states import State

SIZES = {"train": 6, "val": 2, "test": 4}
DATA = DatasetFacts("oai", "", ("bone",), SIZES, SIZES, SIZES, (0.3, 0.3), (3.0, 3.0), 42, trained=6)


def experiment(**chosen: Any) -> Any:
    module = {"sam2_model_cfg": "sam2_nano", "image_size": 256}
    value = {"experiment": {"name": "knee"}, "dataset": {"oai": {"store": "d"}}, "module": module, "eval": chosen}
    return parse_experiment(value)


def facts(**chosen: Any) -> EvaluationFacts:
    section = experiment(**chosen).eval
    protocol = "boxes_file" if section.protocol == "boxes_file" else protocol_class(section.protocol)(section).name()
    return EvaluationFacts(section, protocol, {"oai": (4, 4)}, 0, 0, 0, 0)


def point(index: int | None, run: str, state: State = State.DONE, **overrides: object) -> PointRun:
    swept = tuple((name.replace("__", "."), value) for name, value in overrides.items())
    return PointRun(index, f"point {index}", run, swept, state, validation=0.1)


def study(*points: PointRun, best: str | None = "run-0", **changes: Any) -> Study:
    how = ComparedEvaluation("e", "oai", "test", "box")
    lines = tuple(ComparisonRow(one, how, {"dice_slice_mean": Score(0.9, 0.8, 0.95, 4, 0.1)}) for one in points)
    choice = "lowest val_loss among 1 of 1 points" if best else "no point has finished, so none is called the best"
    given = {"evaluations": (facts(),), "data": (DATA,), **changes}
    data = given.pop("data")
    return Study("knee", experiment(), data, Comparison(lines, best, choice), best or "base", **given)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "boxes_file"])
def test_what_a_prompt_means_is_said_once(protocol: str) -> None:
    text = " ".join(prompt_sentences(facts(protocol=protocol)))
    assert text.count("prompted with") == 1
    assert text.count("a high Dice does not show" if protocol == "mask" else "an upper bound of what a user gets") == 1


@pytest.mark.parametrize("protocol", ["box", "propagate"])
def test_slices_that_were_left_out_are_said_once_and_only_then(protocol: str) -> None:
    without = " ".join(prompt_sentences(facts(protocol=protocol, include_empty_slices=False)))
    assert without.count("left out") == 1
    assert "hold a label" not in without
    assert "nothing could be predicted in them" not in without
    assert "left out" not in " ".join(prompt_sentences(facts(protocol=protocol)))


def test_boxes_of_a_detector_have_their_file_and_moved_boxes_are_no_upper_bound() -> None:
    text = " ".join(prompt_sentences(facts(protocol="boxes_file", boxes_file="found/boxes_`a.csv")))
    assert "what a user of this detector gets" in text
    assert "a box without a structure is spurious" in text
    assert "``boxes_`a.csv``" in text
    moved = " ".join(prompt_sentences(facts(bbox_shift=1, direction="both")))
    assert "each side moved inward or outward by 0 to 1 pixel of the original image at random" in moved
    assert "upper bound" not in moved


def test_a_noise_study_has_its_sentence() -> None:
    text = " ".join(prompt_sentences(facts(prompt_noise={"shifts": [0, 5, 10], "seeds": [3]})))
    assert "by up to 0, 5 and 10 pixels at random, with 1 seed each" in text


def test_each_of_several_evaluations_has_its_own_sentences() -> None:
    several = (facts(), facts(protocol="point", missed_distance=7.5))
    text = methods_text(study(point(0, "run-0"), evaluations=several, measures=("hd95_mm",)))
    assert "There were 2 evaluations." in text
    assert "the bounding box of each connected component" in text
    assert "the pixel deepest inside each connected component" in text
    assert "in distances as the diagonal of the volume and 7.5 mm (2 evaluations)" in text
    card = model_card(study(point(0, "run-0"), evaluations=several), [], None)
    assert "by the bounding box of each" in card
    assert "; or by the pixel deepest" in card


@pytest.mark.parametrize(
    ("split", "trained", "words"),
    [("test", True, ""), ("val", True, "too good for new subjects"), ("train", True, "that the model was trained on"),
     ("val", False, ""), ("train", False, "")],
)  # fmt: skip
def test_a_split_that_was_not_held_out_is_said(split: str, trained: bool, words: str) -> None:
    text = split_limit(experiment(split=split).eval, trained=trained)
    assert words in text
    assert bool(text) == bool(words)
    given = study(point(0, "run-0"), evaluations=(facts(split=split),)) if trained else None
    for found in () if given is None else (methods_text(given), claim_checklist(given)):
        assert words in found
        assert "Held-out" not in found


def test_a_label_beside_its_reference_is_not_hidden() -> None:
    assert "beside" not in missed_words(facts())
    found = EvaluationFacts(experiment().eval, "box", {}, 0, 0, 0, 0, 3, 1)
    assert "in 3 slices and 1 volume a label was predicted only beside its reference, a Dice of 0" in missed_words(
        found
    )


@pytest.mark.parametrize(
    ("sizes", "student", "bootstrap", "one"),
    [
        ((4,), True, False, False),
        ((12, 40), False, True, False),
        ((4, 12), True, True, False),
        ((1,), False, False, True),
        ((), False, False, False),
    ],
)
def test_intervals_are_said_as_they_were_made(
    sizes: tuple[int, ...], student: bool, bootstrap: bool, one: bool
) -> None:
    text = " ".join(interval_sentences(sizes))
    found = ("Student's t" in text, "bootstrap samples" in text, "one subject has neither" in text)
    assert found == (student, bootstrap, one)


@pytest.mark.parametrize(
    ("tests", "says", "not_says"),
    [
        (PairedTests(), (), ("Wilcoxon", "ranking")),
        (PairedTests(1, False, 1, (12,)), ("The other point was", "nothing was corrected"), ("baseline", "smallest p")),
        (PairedTests(0, True, 1, (4,), 1), ("The baseline (the initial weights) was", "is 0.125, so", "each label"),
         ("over the labels", "points")),
        (PairedTests(3, True, 4, (8,), 5, 8), ("The other points and the baseline (the initial weights) were",
         "over all comparisons", "over the labels of a measure", "bootstrap over 8 subjects"), ("smallest p",)),
        (PairedTests(9, True, 10, (6,)), ("is 0.312 after the correction",), ()),
    ],
)  # fmt: skip
def test_what_was_tested_is_said_and_nothing_else(
    tests: PairedTests, says: tuple[str, ...], not_says: tuple[str, ...]
) -> None:
    text = " ".join(comparison_sentences(study(point(0, "run-0"), tests=tests)))
    assert all(words in text for words in says), text
    assert not any(words in text for words in not_says), text


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ((point(0, "run-0"),), "The seed was 42."),
        ((point(0, "run-0", lr=1), point(1, "run-1", lr=2)), "2 trainings were made: 2 combinations of `lr`."),
        ((point(0, "run-0", lr=1), point(1, "run-1", State.FAILED, lr=2)),
         "2 trainings were planned: 2 combinations of `lr`, of which 1 finished."),
        ((point(0, "run-0", experiment__seed=1), point(1, "run-1", experiment__seed=2)),
         "2 trainings were made: the same settings with the seeds 1 and 2."),
        ((point(0, "run-0", lr=1, experiment__seed=1), point(1, "run-1", lr=2, experiment__seed=2)),
         "2 trainings were made: 2 combinations of `lr`, with the seeds 1 and 2."),
        # One training, evaluated in two ways.
        ((point(0, "run-0", eval__protocol="box"), point(1, "run-0", eval__protocol="point")), "The seed was 42."),
    ],
)  # fmt: skip
def test_trainings_are_counted_as_trainings(points: tuple[PointRun, ...], says: str) -> None:
    text = " ".join(choice_sentences(study(*points)))
    assert says in text
    assert ("was chosen" in text) == (len({one.run for one in points}) > 1)
    assert ("not over seeds" in text) == ("seeds 1 and 2" in says)


def test_without_a_chosen_point_the_text_does_not_say_that_nothing_was_trained() -> None:
    failed = study(point(None, "base"), point(0, "run-0", State.FAILED), best=None)
    assert "describes the initial weights, evaluated as they are: no point has finished" in methods_text(failed)
    assert "nothing was trained" not in methods_text(failed)
    assert "nothing was trained" in methods_text(study(point(None, "base"), best=None))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("configs/sam2.1/sam2.1_hiera_b+.yaml", "SAM 2.1 [@ravi2025sam2], model `sam2.1_hiera_base_plus`"),
        ("configs/sam2/sam2_hiera_l.yaml", "SAM 2 [@ravi2025sam2], model `sam2_hiera_large`"),
        ("sam2_nano", "with the architecture of SAM 2"),
        ("mine/config.yaml", "in the configuration `mine/config.yaml`"),
    ],
)
def test_a_model_has_its_name(config: str, words: str) -> None:
    assert words in model_words(config)


def test_distances_say_between_what_they_are() -> None:
    assert distance_words(()) == []
    assert distance_words(("hd_mm", "assd_mm", "dice")) == [
        "the Hausdorff distance and the average symmetric surface distance between boundary voxels"
    ]
    assert distance_words(("hd95_surfel_mm",)) == [
        "the 95th percentile of the Hausdorff distance between surface elements [@nikolov2021surface]"
    ]


@pytest.mark.parametrize(
    ("anatomy", "modality", "words"),
    [
        ("", "", "Dataset `oai` has 12 subjects"),
        ("knee", "", "Dataset `oai` (knee) has"),
        ("", "MRI", "Dataset `oai` (MRI) has"),
        ("knee", "MRI", "Dataset `oai` (knee, MRI) has"),
        ("<b>knee</b>", "a|b", r"Dataset `oai` (&lt;b&gt;knee&lt;/b&gt;, a\|b) has"),
    ],
)
def test_what_is_known_of_a_dataset_is_said_and_nothing_is_guessed(anatomy: str, modality: str, words: str) -> None:
    data = DatasetFacts("oai", anatomy, ("bone",), SIZES, SIZES, SIZES, None, None, 42, modality=modality)
    given = study(point(0, "run-0"), data=(data,))
    assert words in methods_text(given)
    inside = words.removeprefix("Dataset `oai` ").removesuffix(" has").strip("()")
    start = f"`oai` ({inside}, 12 subjects)" if anatomy or modality else "`oai` (12 subjects)"
    assert start in claim_checklist(given)


@pytest.mark.parametrize(("subjects", "compared"), [(0, False), (2, False), (3, True), (12, True)])
def test_agreement_is_not_claimed_of_fewer_pairs_than_it_needs(subjects: int, compared: bool) -> None:
    measured = (("t2", "mean"), ("tissueheight", "height"), ("tissueheight", "DHI"))
    text = methods_text(study(point(0, "run-0"), biomarkers=measured, biomarker_subjects=subjects))
    assert ("limits of agreement [@blandaltman1986]" in text) == compared
    assert ("no limits of agreement and no correlation" in text) != compared
    assert "the index DHI is this height over" in text
