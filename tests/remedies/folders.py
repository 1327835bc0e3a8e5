"""Remedies of DICOM folders that hold more than one stack, of files of several images, and of echoes in NIfTI."""

from tests.remedies.registry import executed_by

STACKS = "tests/data/dicom/test_stacks.py::"
FRAMES = "tests/data/dicom/test_frames.py::"
MAPS = "tests/data/images/test_maps.py::"

executed_by(
    "choose one in the dataset file, such as {}: {{}}",
    test=f"{STACKS}test_what_a_refusal_proposes_gives_one_stack",
)
executed_by("give the folder of one of them alone", test=f"{STACKS}test_stacks_that_no_key_tells_apart_are_read_alone")
executed_by(
    "choose it in the dataset file, such as {}: {part: {}}",
    test=f"{STACKS}test_a_decay_leaves_out_localizers_and_finished_maps_and_takes_one_part",
)
executed_by(
    "leave the key out",
    of="chooses one image of a decay",
    test=f"{STACKS}test_a_decay_in_two_planes_is_chosen_by_its_plane",
)
executed_by("leave one of both out", test=f"{STACKS}test_a_choice_in_strict_folders_is_refused")
for clause in ("export it again if it is one of them", "move it elsewhere"):
    executed_by(clause, of="named as the DICOM files", test=f"{STACKS}test_a_damaged_file_is_written_again_or_moved")
executed_by(
    "believe: spacing",
    of="holds {} frames",
    test=f"{FRAMES}test_frames_with_one_position_are_placed_only_when_their_spacing_is_believed",
)
executed_by(
    "export the series again",
    of="PerFrameFunctionalGroupsSequence has",
    test=f"{FRAMES}test_frames_without_their_place_are_refused_by_number",
)
executed_by(
    "export it with its private attributes or as an image per slice, or {}",
    test=f"{FRAMES}test_a_mosaic_without_its_private_header_is_refused_with_a_way_out",
)
executed_by(
    "export the map again as NIfTI",
    test=f"{MAPS}test_a_mapping_to_real_values_goes_before_slope_and_intercept",
)
executed_by("export the map again", of="name several units", test=f"{MAPS}test_a_map_in_two_units_is_refused")
executed_by(
    "give sources.maps.<name>.series to fit a map to them, or, if they are times, sources.maps.<name>.unit",
    test=f"{MAPS}test_an_ordinary_image_is_not_taken_for_a_map",
)
NIFTI = f"{MAPS}test_echoes_in_nifti_need_a_sidecar_each_and_one_grid"
executed_by("leave it out", of="chooses DICOM images", test=NIFTI)
executed_by("give a folder with one image of each time", test=NIFTI)
executed_by("write it again, with {} in s", test=NIFTI)
executed_by(
    "give the folders of its series",
    test="tests/data/dicom/test_file.py::test_the_table_of_contents_of_a_disc_is_no_image_and_hides_none",
)
executed_by(
    "convert it: in Python with nibabel: nibabel.save",
    test="tests/data/formats/test_installed_files.py::"
    "test_files_that_nibabel_reads_alone_are_converted_as_the_message_says",
)
