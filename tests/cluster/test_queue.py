from sam2ft.cluster.queue import parse_squeue

TEXT = """\
17_0|RUNNING|None|n1
17_1|PENDING|Resources|
17_2|COMPLETED|None|n2
18|CONFIGURING|None|n[1-2]
19|PENDING|Dependency|
"""


def test_elements_and_plain_jobs_are_listed_by_id_and_ended_ones_left_out():
    queue = parse_squeue(TEXT)
    assert list(queue) == ["17_0", "17_1", "18", "19"]
    assert (queue["17_0"].state, queue["17_0"].nodes, queue["17_0"].waits) == ("RUNNING", "n1", False)
    assert queue["17_1"].waits
    assert queue["18"].waits
    assert queue["19"].reason == "Dependency"


def test_an_empty_queue_is_known_to_be_empty():
    assert parse_squeue("") == {}
