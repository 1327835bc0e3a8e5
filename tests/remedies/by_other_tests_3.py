"""Remedies that tests elsewhere execute, and those that nothing here could."""

from tests.remedies.registry import excused, executed_by

TRUST = "tests/config/test_trust.py::"
executed_by(
    "set {}={} if you trust this user",
    of="belongs to user {}",
    test=f"{TRUST}test_the_remedies_for_a_file_of_another_user_work",
)
executed_by(
    "set {}={} if you trust this user",
    of="access list",
    test=f"{TRUST}test_users_and_groups_of_an_access_list_count",
)
executed_by(
    "set {}=@{} if you trust all its members",
    test=f"{TRUST}test_a_group_that_others_can_be_in_may_not_write",
)
executed_by(
    "run `make schema`",
    of="out of date",
    test="tests/test_docs.py::test_a_generator_writes_what_is_out_of_date_and_names_it_with_check",
)
executed_by(
    "run the same command again, it continues",
    test="tests/torture/test_disk_faults.py::"
    "test_a_full_file_system_says_so_on_every_attempt_and_the_command_finishes_when_it_has_grown",
)
executed_by(
    "run launch/prepare.py again",
    of="its store does not record the source image",
    test="tests/data/export/test_dicom_seg.py::"
    "test_a_store_that_does_not_know_its_images_says_so_and_is_prepared_again",
)
executed_by(
    "restore it from a backup",
    of="its image is gone or refused",
    test="tests/data/prepare/test_prepare.py::test_a_damaged_array_whose_image_is_gone_is_named",
)
executed_by("set it to {}", test="tests/data/prepare/test_pseudonyms.py::test_a_store_keeps_its_kind_of_names")
executed_by(
    "restore it",
    of="changed after the baseline was planned",
    test="tests/jobs/test_damaged_files.py::"
    "test_one_flipped_bit_in_the_weights_of_a_baseline_is_found_before_the_evaluation",
)
executed_by(
    "remove the file",
    of="when no process is working on this run",
    test="tests/runs/test_read_back.py::test_a_damaged_claim_of_a_run_without_other_files_says_what_to_remove",
)
executed_by("save more checkpoints", test="tests/jobs/test_restarts.py::test_more_checkpoints_let_a_run_go_on")
executed_by(
    "with --local {} each has its own GPU",
    test="tests/sweeps/test_sweep.py::test_points_that_share_gpus_are_told_so",
)
executed_by(
    "train again from the start with `python launch/train.py {} --fresh`",
    of="no resume file of epoch",
    test="tests/training/checkpoints/test_heal.py::"
    "test_without_the_resume_file_of_its_epoch_the_remedy_is_to_train_again",
)

# Logs of other processes of a job, for a person to read.
excused(
    "judgement", ("see its log", "rank 0 ended without"), ("see its log", "if it runs, this node"), "see their logs"
)
# Needs the server of the publisher; tests/remedies/downloads.py runs the same program with a server of its own.
excused("elsewhere", ("the package contains weights only for {}, `make weights` downloads the official ones", ""))
# These resolve and install from the index of Python packages.
excused(
    "elsewhere",
    ("run `make lock`", "known fixes"),
    ("run `make lock`", "has no exact version"),
    "write the file with `make lock`",
    "run `make setup`",
)
