import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable

KNEE = LabelTable((Label(5, "femur"), Label(1, "femoral cartilage", interface="femur")))


def test_labels_are_in_order_of_id_and_found_by_id_and_by_name():
    assert KNEE.ids == (1, 5)
    assert KNEE[5].name == "femur"
    assert KNEE.named("femoral cartilage").id == 1
    assert KNEE.interface_of(1) == KNEE[5]
    assert KNEE.interface_of(5) is None


def test_a_table_survives_json():
    assert LabelTable.from_json(KNEE.to_json()) == KNEE


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([Label(1, "a"), Label(1, "b")], "labels: id 1 is given twice"),
        ([Label(1, "a"), Label(2, "a")], "labels: name a is given twice"),
        ([Label(0, "background")], "id 0; an id is 1 to 65535"),
        ([Label(70000, "a")], "id 70000"),
        ([Label(1, "a", interface="b")], r"labels\.1\.interface: 'b' is not a label; known: a"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        LabelTable(tuple(labels))


def test_an_unknown_label_lists_what_is_known():
    with pytest.raises(DataError, match="label 3 is not in the label table; known: 1 femoral cartilage, 5 femur"):
        KNEE[3]
    with pytest.raises(DataError, match="no label is named 'tibia'"):
        KNEE.named("tibia")


def test_without_a_table_the_name_of_a_label_is_its_integer():
    assert LabelTable.unnamed([7, 2]).describe() == "2 2, 7 7"
