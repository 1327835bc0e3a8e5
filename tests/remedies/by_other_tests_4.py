"""Remedies of the formats of volume files, which the tests of each format execute."""

from tests.remedies.registry import executed_by

FORMATS = "tests/data/formats/"
MHA, MGH = f"{FORMATS}test_mha_file.py::", f"{FORMATS}test_mgh_file.py::"
PAIR, ARRAY, STACK = (f"{FORMATS}test_{name}.py::" for name in ("analyze_file", "array_file", "picture_stack"))
ADVISED = f"{MHA}test_what_a_refusal_advises_makes_the_file_readable"
NRRD = f"{FORMATS}test_nrrd_file.py::"
VISITS = (
    "tests/data/scan/test_pairing.py::test_a_mask_that_fits_two_visits_alike_is_left_out_until_its_place_says_which"
)
DAMAGED = f"{FORMATS}test_readers.py::test_damage_is_a_refusal_or_the_same_voxels"
SPACED = f"{STACK}test_a_header_that_gives_the_spacing_is_obeyed_or_contradicted_aloud"
GREY = f"{STACK}test_colours_are_refused_until_they_are_grey"
ALONE = f"{ARRAY}test_one_of_several_arrays_is_named"
BELIEVED = f"{MHA}test_believe_decides_between_matrix_and_spacing"

for clause, of, test in (
    ("copy it again", "^not a readable {} file: {}; copy", DAMAGED),
    ("copy it again", "bytes follow the end of its compressed", DAMAGED),
    # A volume of several, spacing and axes.
    ("choose one of 0 to {} in the dataset file with channel", "", f"{MHA}test_a_channel_is_chosen_by_its_index"),
    ("save one alone", "expected one 3-D volume, found", f"{MHA}test_a_volume_of_several_may_be_saved_alone"),
    (
        "give distances between slices, rows and columns in mm, such as spacing_mm: [3, 0.5, 0.5] in the dataset file, "
        "or eval --spacing-mm 3 0.5 0.5",
        "",
        "tests/cli/test_eval_masks.py::test_arrays_are_scored_with_their_spacing_and_axes",
    ),
    (
        "give the order, in the dataset file or with eval --axes: {}",
        "",
        "tests/cli/test_eval_masks.py::test_arrays_are_scored_with_their_spacing_and_axes",
    ),
    ("name one in the dataset file with array", "", ALONE),
    ("save one alone", "mask_array: (masks), or", ALONE),
    ("save it with numpy.save", "objects would need pickle", f"{ARRAY}test_nothing_is_unpickled"),
    # Headers.
    ("say which is right", "orientation ({}) or believe: spacing ({})", BELIEVED),
    ("believe: orientation", "orientation ({}) or believe: spacing ({})", BELIEVED),
    ("believe: spacing", "orientation ({}) or believe: spacing ({})", BELIEVED),
    ("in the dataset file, or eval --believe", "orientation ({}) or believe: spacing ({})", BELIEVED),
    (
        "write it, e.g. in Python with SimpleITK: JoinSeries",
        "^is a 2-D image without the depth of its slice; allowed: 3-D",
        f"{MHA}test_a_single_picture_gets_its_depth",
    ),
    ("mend its header", "along directions", ADVISED),
    ("save it again, e.g. in Python with SimpleITK: WriteImage", "voxels as text", ADVISED),
    ("save them", "which programs read differently", ADVISED),
    ("write them, e.g. in Python with SimpleITK: image.SetSpacing", "no ElementSpacing", ADVISED),
    ("write it to its header", "its ElementSpacing has a length", ADVISED),
    ("write them to the header", "its DistanceUnits", ADVISED),
    (
        "write them, e.g. in Python with nibabel",
        "goodRASFlag",
        f"{MGH}test_directions_written_with_nibabel_mend_a_header_without_them",
    ),
    (
        "save it as NIfTI with its sizes, e.g. in Python with SimpleITK: image.SetSpacing",
        "",
        f"{PAIR}test_analyze_without_edges_is_refused_until_simpleitk_writes_them",
    ),
    # Files that belong together.
    ("save it as one .mha file", "several files", f"{MHA}test_voxels_in_several_files_are_saved_as_one"),
    ("move the voxels there", "ElementDataFile", f"{MHA}test_voxels_are_never_read_from_another_folder"),
    ("write the name to the header", "ElementDataFile", f"{MHA}test_voxels_are_never_read_from_another_folder"),
    ("save it as one .mha file", "is a path", f"{MHA}test_voxels_are_never_read_from_another_folder"),
    ("copy it there", "ElementDataFile", f"{MHA}test_voxels_that_are_not_there_are_named"),
    ("copy it there", "is one of a pair", f"{PAIR}test_a_half_pair_is_refused_until_the_other_half_is_there"),
    ("name it .nii", "not of a pair", f"{PAIR}test_files_with_each_other_names_say_how_they_are_named_right"),
    ("name it .hdr beside its .img file", "", f"{PAIR}test_files_with_each_other_names_say_how_they_are_named_right"),
    ("mend the kinds of its header", "", f"{NRRD}test_three_axes_of_which_one_is_none_of_space_are_no_volume"),
    # Pictures.
    (
        "save its pixels in that order",
        "Orientation",
        f"{STACK}test_rows_and_columns_that_a_tiff_says_are_turned_are_refused",
    ),
    ("save them", "has a calibration", f"{STACK}test_values_that_imagej_calibrates_are_refused"),
    # Series and scans.
    (
        "put each stack into a folder of its own",
        "beside the line",
        "tests/data/dicom/test_placement.py::test_two_stacks_side_by_side_are_read_from_a_folder_each",
    ),
    ("put it into the folder of its image", "images of one kind", VISITS),
    ("name it so", "images of one kind", VISITS),
    (
        "add them, or number the slices anew if they are evenly spaced",
        "",
        f"{STACK}test_a_missing_slice_is_added_and_even_gaps_are_numbered_anew",
    ),
    ("say which is right", "leave spacing_mm out", SPACED),
    ("leave spacing_mm out if the header gives all three", "", SPACED),
    ("believe: spacing", "leave spacing_mm out", SPACED),
    ("in the dataset file, or eval --believe", "leave spacing_mm out", SPACED),
    ("export it as grey", "is a PNG", GREY),
    ("export it as grey", "is a TIFF", GREY),
):
    executed_by(clause, of=of, test=test)

# The integrity report of a store.
REPORT = "tests/cli/test_store_report.py::"
for clause, test in (
    ("--report takes --workers alone, not --{}", "test_an_option_that_does_nothing_beside_report_is_refused"),
    ("run sam2ft prepare --report {}", "test_a_page_that_cannot_be_made_is_a_note_and_the_store_is_whole"),
    ("prepare shows it", "test_the_page_names_subjects_as_the_store_does_and_no_folders"),
):
    executed_by(clause, test=f"{REPORT}{test}")
