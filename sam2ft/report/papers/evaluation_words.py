"""Words of the texts for papers for evaluations: prompts, splits, misses, intervals and tests of a study."""

from collections.abc import Collection, Mapping, Sequence

from sam2ft.config.schema.evaluation import Evaluation, protocol_headline
from sam2ft.core.errors import number_of
from sam2ft.report.comparison.number_text import p_text
from sam2ft.report.papers.markdown import code_text, markdown_list
from sam2ft.report.papers.study import EvaluationFacts, PairedTests, Study
from sam2ft.statistics.bootstrap import CONFIDENCE, RESAMPLES
from sam2ft.statistics.small_samples import FEW, can_be_significant, smallest_p

SPLIT_WORDS: Mapping[str, str] = {"train": "training", "val": "validation", "test": "test"}
_DISTANCES = {
    "hd": "Hausdorff distance",
    "hd95": "95th percentile of the Hausdorff distance",
    "assd": "average symmetric surface distance",
}
_SURFACES = {"": "boundary voxels", "_surfel": "surface elements [@nikolov2021surface]"}
"""Ending of a measure -> between what it measures."""
_OF_THE_REFERENCE = ("box", "point", "points", "mask")
"""Protocols that prompt what the reference holds in each slice, and nothing else."""


def prompt_sentences(one: EvaluationFacts) -> list[str]:
    """How the model was prompted in an evaluation, and what follows from it, as sentences."""
    chosen = one.settings
    on = evaluated_words(one.evaluated)
    found = [
        f"On the {SPLIT_WORDS[chosen.split]} subjects{f' ({on})' if on else ''} the model was prompted with "
        f"{prompted_with(chosen)}{_meaning(one.protocol)}."
    ]
    if chosen.protocol == "boxes_file" and chosen.boxes_file is not None:
        found.append(
            f"The boxes are those of the file {code_text(chosen.boxes_file.name)}; a structure without a box is "
            "missed, and a box without a structure is spurious."
        )
    if chosen.protocol in _OF_THE_REFERENCE and chosen.include_empty_slices:
        found.append("Slices without a reference had no prompt, so that nothing could be predicted in them.")
    if not chosen.include_empty_slices:
        found.append("Slices without any reference were left out.")
    if (noise := chosen.prompt_noise) is not None:
        found.append(
            f"The evaluation was repeated with boxes whose sides were moved by up to "
            f"{markdown_list(map(str, noise.shifts))} pixels at random, with "
            f"{number_of(len(noise.seeds), 'seed')} each."
        )
    return [*found, f"{missed_words(one)}."]


def prompted_with(chosen: Evaluation) -> str:
    """What the model was prompted with, and how boxes were moved."""
    if not chosen.bbox_shift:
        return chosen.prompted_with
    sides = "outward" if chosen.direction == "outward" else "inward or outward"
    pixels = f"{number_of(chosen.bbox_shift, 'pixel')} of the original image"
    return f"{chosen.prompted_with}, each side moved {sides} by 0 to {pixels} at random"


def _meaning(protocol: str) -> str:
    """`: ` and what numbers with these prompts mean, without what `Evaluation.prompted_with` says already."""
    own = protocol.partition("+")[0].replace("_per_label", "", 1)
    return "".join(protocol_headline(own).partition(": ")[1:])


def split_limit(chosen: Evaluation, *, trained: bool) -> str:
    """What the evaluated split means for the results, as a sentence; empty for the test split, or without a training.

    Validation subjects had a part in the choice of the epoch and of the point.
    """
    if not trained or chosen.split == "test":
        return ""
    if chosen.split == "val":
        return (
            "The validation subjects were also those by which the epoch and the settings were chosen, so that these "
            "results are too good for new subjects."
        )
    return "The training subjects are those that the model was trained on: these results say nothing of new subjects."


def distance_words(measures: Collection[str]) -> list[str]:
    """The measured distances, a text per kind of surface."""
    found = []
    for ending, surface in _SURFACES.items():
        names = [f"the {words}" for name, words in _DISTANCES.items() if f"{name}{ending}_mm" in measures]
        found += [f"{markdown_list(names)} between {surface}"] if names else []
    return found


def evaluated_words(evaluated: Mapping[str, tuple[int, int]]) -> str:
    """`8 subjects, 9 volumes`, per dataset where there are several."""
    several = len(evaluated) > 1
    return "; ".join(
        f"{f'{code_text(name)}: ' if several else ''}{number_of(subjects, 'subject')}, {number_of(volumes, 'volume')}"
        for name, (subjects, volumes) in evaluated.items()
    )


def missed_distance_words(missed_distance: float | str) -> str:
    """What a distance is where a label is missed or spurious (`eval.missed_distance`)."""
    return "the diagonal of the volume" if missed_distance == "diagonal" else f"{missed_distance:g} mm"


def missed_words(one: EvaluationFacts) -> str:
    """How many labels were missed and spurious, as a sentence without its end."""
    text = (
        f"In whole volumes {number_of(one.n_missed, 'label')} {'was' if one.n_missed == 1 else 'were'} missed and "
        f"{one.n_spurious} spurious"
    )
    if one.missed_slices is not None:
        text += f", in single slices {one.missed_slices} and {one.spurious_slices}"
    if one.elsewhere_slices or one.elsewhere_volumes:
        text += (
            f"; in {number_of(one.elsewhere_slices, 'slice')} and {number_of(one.elsewhere_volumes, 'volume')} a label "
            "was predicted only beside its reference, a Dice of 0 that is not counted as missed"
        )
    return text


def listed_values(values: Sequence[str]) -> str:
    """Values of a setting, each once; of several evaluations in their order."""
    different = list(dict.fromkeys(values))
    several = f" ({len(different)} evaluations)" if len(different) > 1 else ""
    return f"{markdown_list(different)}{several}"


def interval_sentences(sizes: Sequence[int]) -> list[str]:
    """How the intervals were made of means over these numbers of subjects, as sentences."""
    few, many = any(1 < n < FEW for n in sizes), any(n >= FEW for n in sizes)
    student = (
        f"{100 * CONFIDENCE:g} % confidence intervals by Student's t over subjects, cut at the limits of a measure (a "
        "Dice is at most 1); a bootstrap of so few values would be too narrow"
    )
    bootstrap = (
        f"{100 * CONFIDENCE:g} % confidence intervals from {RESAMPLES:,} bootstrap samples of subjects (bias-corrected "
        "and accelerated [@efron1987])"
    )
    found = []
    if many:
        found.append(f"Means{f' over {FEW} or more subjects' if few else ''} have {bootstrap}.")
    if few:
        found.append(
            f"Means{f' over fewer than {FEW} subjects' if many else f', of fewer than {FEW} subjects,'} have {student}."
        )
    if 1 in sizes:
        found.append("A mean over one subject has neither a standard deviation nor an interval.")
    return found


def comparison_sentences(study: Study) -> list[str]:
    """What was tested against the chosen point and how, as sentences; none where nothing was."""
    tests = study.tests
    if not tests.num_points and not tests.baseline:
        return []
    points = {0: "", 1: "the other point"}.get(tests.num_points, "the other points")
    compared = " and ".join(filter(None, (points, "the baseline (the initial weights)" if tests.baseline else "")))
    were = "were" if tests.num_points > 1 or (tests.num_points and tests.baseline) else "was"
    found = [
        f"{compared[0].upper()}{compared[1:]} {were} compared with the chosen point by Wilcoxon's signed-rank test "
        f"over subjects [@wilcoxon1945], two-sided, with the rank-biserial correlation as effect size [@kerby2014]"
        f"{_correction(tests)}."
    ]
    if tests.num_labels:
        over = ", corrected after Holm [@holm1979] over the labels of a measure" if tests.num_labels > 1 else ""
        found.append(f"For each label the chosen point was compared with the baseline in the same way{over}.")
    return [*found, *_smallest(tests), *_ranked(study)]


def _correction(tests: PairedTests) -> str:
    if tests.largest_family < 2:
        return "; with one comparison per measure nothing was corrected for their number"
    return (
        ", corrected after Holm [@holm1979] over all comparisons of one dataset, split, protocol and measure (Dice per "
        "slice and Dice per volume: a family each)"
    )


def _smallest(tests: PairedTests) -> list[str]:
    """A sentence where so few subjects are paired that no test can be below 0.05."""
    n = max(tests.sizes, default=0)
    if not n or can_be_significant(n, max(tests.largest_family, 1)):
        return []
    least = p_text(min(1.0, smallest_p(n) * max(tests.largest_family, 1)))
    after = " after the correction" if tests.largest_family > 1 else ""
    return [
        f"With {number_of(n, 'subject')} the smallest p that such a test can give is {least}{after}, so that these "
        "tests cannot show a difference."
    ]


def _ranked(study: Study) -> list[str]:
    if not study.tests.ranked:
        return []
    return [
        f"How firmly the ranking of the points stands was judged by bootstrap over {study.tests.ranked} subjects "
        "[@wiesenfarth2021]."
    ]
