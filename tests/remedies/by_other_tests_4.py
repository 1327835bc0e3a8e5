"""Remedies of the formats of volume files, which the tests of each format execute."""

from tests.remedies.registry import excused, executed_by

FORMATS = "tests/data/formats/"
MHA, MGH = f"{FORMATS}test_mha_file.py::", f"{FORMATS}test_mgh_file.py::"
PAIR, ARRAY, STACK = (f"{FORMATS}test_{name}.py::" for name in ("analyze_file", "array_file", "picture_stack"))

# One volume of several, spacing and axes.
executed_by(
    "choose one of 0 to {} in the dataset file with channel: (images)",
    test=f"{MHA}test_a_channel_is_chosen_by_its_index",
)
