"""The statuses of a batch and the changes between them, held against the contract."""

import pytest

from batchd.domain.batches import (
    CANCEL_STATUSES,
    DOWNLOAD_STATUSES,
    END_STATUSES,
    OPEN_STATUSES,
    TRANSITIONS,
    ErrorCount,
    LineCounts,
    Status,
    sources_of,
)

LEGAL = """
new → copying, cancel
copying → copied, hash_mismatch, cancel
copied → validating, cancel
hash_mismatch → deleting
validating → processing, validation_failed, cancel
validation_failed → deleting
processing → processed, cancel
processed → writing_results
writing_results → completed, cancelled
completed → deleting
cancel → cancelling
cancelling → cancelled
cancelled → deleting
deleting →
"""
"""The contract's table of statuses, and where it says that cancel and delete are legal."""


def legal_changes() -> dict[str, set[str]]:
    changes = (line.split("→") for line in LEGAL.strip().splitlines())
    return {
        source.strip(): {target.strip() for target in targets.split(",") if target.strip()}
        for source, targets in changes
    }


def reachable_from(start: Status) -> set[Status]:
    reachable = {start}
    rest = [start]
    while rest:
        for target in TRANSITIONS[rest.pop()] - reachable:
            reachable.add(target)
            rest.append(target)
    return reachable


def test_changes_are_those_of_the_contract() -> None:
    assert {str(source): set(map(str, to)) for source, to in TRANSITIONS.items()} == legal_changes()


def test_there_are_fourteen_statuses_and_each_has_its_place() -> None:
    assert len(Status) == 14
    assert set(TRANSITIONS) == set(Status)


def test_every_status_is_reached_from_new() -> None:
    assert reachable_from(Status.NEW) == set(Status)


@pytest.mark.parametrize("status", Status)
def test_every_batch_can_come_to_an_end_and_be_deleted(status: Status) -> None:
    assert Status.DELETING in reachable_from(status)
    if status in OPEN_STATUSES:
        assert reachable_from(status) & END_STATUSES


@pytest.mark.parametrize("status", Status)
def test_no_status_is_ever_returned_to(status: Status) -> None:
    assert all(status not in reachable_from(target) for target in TRANSITIONS[status])


@pytest.mark.parametrize("status", sorted(END_STATUSES))
def test_end_status_leads_to_deleting_only(status: Status) -> None:
    assert TRANSITIONS[status] == {Status.DELETING}


def test_only_an_ended_batch_is_deleted_and_nothing_follows() -> None:
    assert sources_of(Status.DELETING) == END_STATUSES
    assert TRANSITIONS[Status.DELETING] == frozenset()


def test_batch_is_cancelled_until_all_its_lines_have_run() -> None:
    assert {str(status) for status in sources_of(Status.CANCEL)} == {
        "new",
        "copying",
        "copied",
        "validating",
        "processing",
    }


@pytest.mark.parametrize("target", Status)
def test_sources_of_a_status_are_those_that_lead_to_it(target: Status) -> None:
    assert sources_of(target) == {
        source for source in Status if str(target) in legal_changes()[str(source)]
    }


def test_every_status_is_open_or_an_end_or_deleting() -> None:
    assert sorted([*OPEN_STATUSES, *END_STATUSES, Status.DELETING]) == sorted(Status)


def test_something_is_downloaded_after_an_end_with_results_or_a_report() -> None:
    assert END_STATUSES - {Status.HASH_MISMATCH} == DOWNLOAD_STATUSES


def test_cancelled_batch_is_one_that_cancelling_led_to() -> None:
    assert reachable_from(Status.CANCEL) - {Status.DELETING} == CANCEL_STATUSES


def test_tallies_add_up_and_keep_the_first_sample_lines() -> None:
    first = LineCounts(succeeded=1, failed=4, errors={404: ErrorCount(count=4, lines=(1, 2, 3, 4))})
    later = LineCounts(
        failed=3,
        cancelled=2,
        errors={
            404: ErrorCount(count=2, lines=(7, 8)),
            500: ErrorCount(count=1, lines=(9,)),
        },
    )

    assert first.plus(later) == LineCounts(
        succeeded=1,
        failed=7,
        cancelled=2,
        errors={
            404: ErrorCount(count=6, lines=(1, 2, 3, 4, 7)),
            500: ErrorCount(count=1, lines=(9,)),
        },
    )
    assert first.plus(later).done == 10
