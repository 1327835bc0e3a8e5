import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.core.errors import DataError
from sam2ft.core.keys import SliceKey, VolumeKey, parse_image_name, path_component

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs"]), min_size=1, max_size=20)


def test_a_slice_key_knows_its_volume_and_its_name_in_the_metadata():
    key = VolumeKey("oai", "9001", "left").slice(6)
    assert key == SliceKey("oai", "9001", "left", 6)
    assert key.volume_key == VolumeKey("oai", "9001", "left")
    assert key.metadata_key == "007"
    assert str(key) == "oai/9001/left slice 6"


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "x" * 129])
def test_names_that_a_table_or_a_path_cannot_hold_are_refused(name):
    with pytest.raises(DataError, match="a name is 1 to 128 printable characters"):
        VolumeKey("oai", name, "v")


@given(NAMES)
def test_a_path_component_is_one_component_and_never_a_step_up(name):
    component = path_component(name)
    assert "/" not in component
    assert component not in ("", ".", "..")


@given(NAMES, NAMES)
def test_different_names_have_different_components(first, second):
    assert (path_component(first) == path_component(second)) == (first == second)


@given(*[st.text("a_", min_size=1, max_size=5)] * 4)
def test_different_volumes_have_different_file_stems(subject, volume, other_subject, other_volume):
    first, second = VolumeKey("d", subject, volume), VolumeKey("d", other_subject, other_volume)
    assert (first.file_stem == second.file_stem) == (first == second)


def test_plain_names_stay_readable_in_file_stems():
    assert VolumeKey("d", "OAI_3454", "left knee").file_stem == "OAI_3454__left knee"


def test_subjects_whose_names_begin_alike_are_different_keys():
    """The predecessor found subjects by substring: OAI_12 took the slices of OAI_123 too."""
    keys = [VolumeKey("d", subject, "v").slice(0) for subject in ("OAI_12", "OAI_123")]
    assert [key for key in keys if key.subject == "OAI_12"] == keys[:1]
    assert VolumeKey("d", "OAI_12", "3").file_stem != VolumeKey("d", "OAI_1", "23").file_stem


def test_a_legacy_slice_file_counts_from_0_and_metadata_from_1():
    assert parse_image_name("OAI_3454-006.npy") == ("OAI_3454", "007")
    assert parse_image_name("a-b-0.nii.gz") == ("a-b", "001")
    with pytest.raises(DataError, match="'slice7' is not a legacy slice name"):
        parse_image_name("slice7")


def test_names_too_long_for_a_file_system_keep_distinct_stems() -> None:
    first, second = (VolumeKey("d", "s" * 128, end * 128).file_stem for end in "ab")
    assert first != second
    assert max(len(first), len(second)) < 200
