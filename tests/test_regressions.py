"""A known predecessor's numbers, each a test that must come out the right way round.

=========================================================  =============================================================
case                                                       test
=========================================================  =============================================================
slab of 3.0 mm at slice thickness 1, 3, 4 mm               metrics/biomarkers/test_thickness.py::test_a_slab_of_3_mm_is_3_mm_at_any_slice_thickness
T1rho map of 40 everywhere                                 metrics/biomarkers/test_relaxation.py::test_a_map_of_40_everywhere_is_40_in_every_tissue
failed fits and voxels out of bounds                       metrics/biomarkers/test_relaxation.py::test_failed_fits_are_left_out_not_counted_as_zero_and_not_clipped
10,000 voxels at 40 and 4 at 80 in another slice           metrics/biomarkers/test_relaxation.py::test_voxels_are_pooled_not_slices_averaged
five discs of 5.0 mm in one label                          metrics/biomarkers/test_height.py::test_five_discs_of_5_mm_are_5_mm_each
empty prediction: disc height                              metrics/biomarkers/test_height.py::test_an_empty_prediction_has_no_height_and_says_missed
empty prediction: T2                                       metrics/biomarkers/test_relaxation.py::test_an_empty_prediction_has_no_t2_and_says_missed
perfect prediction, one class absent                       statistics/test_cohort.py::test_a_perfect_prediction_scores_1_though_a_class_is_absent_from_the_test_set
10 large good slices and 6 small bad ones                  metrics/test_scoring.py::test_ten_large_good_slices_and_six_small_bad_ones_give_volume_dice_of_0_945
subject OAI_12 when OAI_123 exists: keys                   core/test_keys.py::test_subjects_whose_names_begin_alike_are_different_keys
subject OAI_12 when OAI_123 exists: metadata               data/store/test_metadata.py::test_slices_of_a_subject_whose_name_begins_anothers_are_only_its_own
subject OAI_12 when OAI_123 exists: store and batches      test_regressions.py::test_a_subject_has_only_its_own_slices_when_anothers_name_begins_with_its
early_stopping.enabled: false, the rule                    training/test_early_stopping.py::test_disabled_never_stops_but_still_knows_the_best_epoch
early_stopping.enabled: false, from the file               training/test_settings_obeyed.py::test_early_stopping_stops_only_when_it_is_enabled
mask_decoder: false, prompt_encoder: true, the model       model/test_trainable.py::test_each_part_is_obeyed_alone_and_together
mask_decoder: false, prompt_encoder: true, from the file   training/test_settings_obeyed.py::test_each_part_trains_or_stays_as_trainable_says
every part false                                           test_bad_input.py::test_an_experiment_that_cannot_be_run_is_refused_before_anything_happens
eval bbox_shift                                            evaluation/test_run.py::test_the_jitter_of_evaluation_is_obeyed_and_named
exception in training: exit code, status, log              training/test_run.py::test_an_exception_in_training_is_a_failure_with_its_traceback_in_the_log_and_never_done
exception in training: the command                         test_end_to_end.py::test_an_exception_inside_training_is_exit_code_1_with_its_traceback_in_the_log
8 boxes on one slice, one encoder pass                     evaluation/prediction/test_tester.py::test_eight_boxes_on_one_slice_are_one_encoder_pass
8 boxes on one slice, one encoder pass, SAM 2              training/test_with_sam2.py::test_eight_boxes_on_a_slice_are_one_encoder_pass_and_chunks_change_nothing
last incomplete accumulation group, the loop               training/test_trainer.py::test_the_last_short_group_of_an_epoch_is_stepped
last incomplete accumulation group, from the file          training/test_settings_obeyed.py::test_the_last_incomplete_group_of_batches_is_a_step
legacy slice file OAI_3454-006.npy                         core/test_keys.py::test_a_legacy_slice_file_counts_from_0_and_metadata_from_1
the predecessor's names of metadata files                  data/store/test_metadata.py::test_the_predecessors_names_are_read
=========================================================  =============================================================
"""  # noqa: E501 (a table)

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter

TESTS = Path(__file__).parent
CASES = re.findall(r"^(\S.*?) {2,}(\S+\.py)::(test_\w+)$", __doc__ or "", flags=re.MULTILINE)


def test_the_table_is_read() -> None:
    assert len(CASES) == (__doc__ or "").count("::") == 26


@pytest.mark.parametrize(("case", "file", "name"), CASES, ids=[case for case, _, _ in CASES])
def test_the_test_of_each_case_exists(case: str, file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_subject_has_only_its_own_slices_when_anothers_name_begins_with_its(tmp_path: Path) -> None:
    """The predecessor found slices by substring: OAI_12 got those of OAI_123 too."""
    writer = StoreWriter(tmp_path / "store", "oai", "knee", LabelTable((Label(1, "cartilage"),)), split_seed=1)
    splits = {"OAI_12": "train", "OAI_123": "test", "OAI_1": "val"}
    depths = {"OAI_12": 2, "OAI_123": 5, "OAI_1": 3}
    keys = [VolumeKey("oai", subject, "3") for subject in splits]
    for key in keys:
        mask = np.zeros((depths[key.subject], 8, 8), np.uint8)
        mask[:, 2:5, 2:5] = 1
        geometry = Geometry.axis_aligned(mask.shape, (3.0, 1.0, 1.0))
        slices = {"rows": [8] * len(mask), "columns": [8] * len(mask)}
        writer.write(PreparedVolume(key, geometry, mask.astype(np.uint16), mask, {}, (0.0, 1.0), slices, {}), "test")
    writer.finish(keys, splits)
    store = Store.open(tmp_path / "store")
    for subject, split in splits.items():
        records = store.split_volumes(split)
        assert [record.key.subject for record in records] == [subject]
        found = SliceDataset([store], records, SliceSettings(image_size=8, seed=1)).keys
        assert found == tuple(records[0].key.slice(index) for index in range(depths[subject]))
