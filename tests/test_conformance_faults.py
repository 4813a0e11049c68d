"""The conformance kit can fail: each planted fault breaks the promises named beside it.

For each check there is a fault that it names; what broke is asserted exactly for some of them, and
for the others, of which most break many promises, those that are meant.
"""

from typing import Any

import faulty_channels as channels
import faulty_streams as streams
import pytest
from plain_channel import MakePair, pair_of

import netio.testing
from netio.testing import (
    ConformanceReport,
    NotConforming,
    check_stream,
    stream_checks,
)

pytestmark = pytest.mark.once

HANGS_S = 5  # after which a check is said to hang that makes the loop spin

# What each fault breaks. Where all of it is named, the fault is in `EXACT`.
CHANNELS = {
    "Duplicates": "nettest_basic_io",
    "Loses": "a_large_write_is_whole",
    "FlipsABit": "nettest_ping_pong",
    "Swaps": "a_large_read_is_whole nettest_basic_io a_megabyte_arrives_whole_however_it_is_cut",
    "TranslatesNewlines": "every_byte_value_passes nettest_racy_read read_line_gives_line_by_line",
    "DropsSingleBytes": "every_byte_value_passes",
    "MixesDirections": "both_directions_carry_at_once",
    "ReceivesIntoShort": "read_into_fills_the_buffer",
    "ReceivesTooMuch": "a_stream_holds_no_more_than_its_limit",
    "SendsFirstOnly": "several_buffers_are_written_as_one a_write_ends_at_its_limit",
    "SendsWithoutTaking": "a_write_that_waits_goes_on_when_there_is_room",
    "TakesOneMore": "a_write_cut_by_its_limit_says_what_was_sent a_large_write_is_whole",
    "SaysOneMore": "a_write_cut_by_its_limit_says_what_was_sent a_large_write_is_whole",
    "KeepsTheCallersMemory": "what_was_written_does_not_change nettest_racy_write",
    "HoldsTheCallersMemory": "the_memory_of_the_caller_is_free_again",
    "Unbounded": "a_peer_that_does_not_read_makes_a_write_wait "
    "a_stream_that_nobody_reads_takes_nothing",
    "ReadsAhead": "a_stream_that_nobody_reads_takes_nothing",
    "ResetIsTheEnd": "a_reset_is_no_end a_reset_comes_after_all_bytes "
    "a_reset_wakes_a_read_that_waits a_reset_met_by_one_direction_is_told_by_the_other",
    "ResetOvertakes": "a_reset_comes_after_all_bytes",
    "ResetForgetsToWake": "a_reset_wakes_a_read_that_waits a_reset_wakes_the_writes_that_wait",
    "AbortIsAClose": "a_reset_is_no_end a_reset_comes_after_all_bytes "
    "a_reset_wakes_a_read_that_waits a_reset_met_by_one_direction_is_told_by_the_other",
    "EndIsLost": "the_end_is_told_each_time",
    "EndForgetsToWake": "the_end_wakes_a_read_that_waits",
    "EndOvertakes": "a_close_comes_after_all_that_was_written",
    "CloseOverUnreadResets": "a_close_over_unread_bytes_is_no_failure_for_the_peer",
    "HalfCloseClosesBothWays": "write_eof_ends_one_direction_only",
    "HalfCloseDoesNothing": "write_eof_ends_one_direction_only "
    "write_eof_may_be_repeated_and_ends_writing write_eof_comes_after_the_writes_that_queue",
    "CloseForgetsToWake": "a_close_wakes_a_read_that_waits a_close_wakes_the_writes_that_wait "
    "nettest_close_timeout",
    "CloseRaises": "closing_does_not_raise_for_what_the_peer_did",
    "ClosesOnce": "closing_may_be_repeated",
    "ForgetsItsPeer": "a_closed_stream_still_knows_its_peer",
    "KeepsItsAddress": "a_closed_stream_still_knows_its_peer",
    "AbandonDoesNothing": "a_stream_abandoned_in_another_thread_is_closed",
    "WritesIntoTheVoid": "writing_to_a_peer_that_is_gone_fails",
    "ForgetsRoom": "a_large_write_is_whole a_long_operation_leaves_turns "
    "a_write_that_waits_goes_on_when_there_is_room",
    "NeverMovesItsTimer": "a_shorter_limit_after_a_longer_one_is_obeyed "
    "a_deadline_moved_earlier_is_obeyed_by_what_waits the_time_in_the_queue_counts",
    "ForgetsTheOtherWaiter": "a_read_and_a_write_each_have_their_limit "
    "a_deadline_moved_later_is_obeyed_by_what_waits",
    "WakesEverybody": "a_read_and_a_write_each_have_their_limit",
    "RingsEarly": "a_read_ends_at_its_limit a_write_ends_at_its_limit",
    "DoesNotRearm": "a_deadline_moved_earlier_is_obeyed_by_what_waits nettest_present_timeout",
    "RenewsWithEachChunk": "a_drip_does_not_renew_the_limit_of_a_read",
    "RenewsWithEachSend": "a_slow_reader_does_not_renew_the_limit_of_a_write",
    "SpinsWhenFull": "waiting_costs_nothing",
    "SpinsOnUnread": "waiting_costs_nothing",
    "SpinsAtTheEnd": "the_end_of_the_peer_costs_nothing",
    "LeavesItsTimer": "a_closed_stream_leaves_no_timer",
    "LeavesATask": "a_closed_stream_leaves_no_task",
    "CostsMoreAndMore": "a_drip_costs_in_proportion_to_its_bytes",
    "RaisesInACallback": "closing_may_be_repeated",
    "BelongsToAnyLoop": "another_loop_is_refused",
}

STREAMS = {
    "ReturnsEarly": "read_exactly_waits_until_all_is_there a_drip_is_read_whole",
    "DropsTheRest": "read_exactly_gives_that_many_bytes",
    "WaitsForNothing": "reading_nothing_does_not_wait",
    "ReadSomeFills": "read_some_gives_what_is_there nettest_past_timeout nettest_future_timeout "
    "nettest_concurrent_methods",
    "ReadSomeDiscards": "read_some_gives_at_most_what_was_asked_for",
    "StripsCarriageReturns": "read_line_gives_line_by_line",
    "StopsAtAnEmptyLine": "iterating_goes_on_until_the_end",
    "MissesCutSeparators": "a_separator_is_found_wherever_it_is_cut",
    "TakesTheFirstSeparator": "the_earliest_of_several_separators_ends_a_record",
    "ReadAllStopsEarly": "read_all_gives_everything_up_to_the_end",
    "PeekTakes": "peeking_takes_nothing",
    "LetsTwoRead": "a_second_reader_is_refused",
    "StaysBusy": "a_cancelled_read_lets_the_next_one_begin "
    "the_timeout_of_asyncio_cuts_an_operation",
    "LosesAtTheEnd": "an_end_that_comes_too_early_keeps_what_came the_end_wakes_a_read_that_waits",
    "EndToldOnce": "the_end_is_told_each_time",
    "LosesOnCancel": "a_cancelled_read_keeps_what_came data_and_a_cancel_lose_no_byte "
    "a_scope_cuts_an_operation_and_what_came_is_kept data_and_a_scope_lose_no_byte",
    "LosesAtTheLimit": "a_read_that_ends_at_its_limit_keeps_what_came "
    "data_and_a_limit_lose_no_byte",
    "CarriesPayloadInTheWakeUp": "data_and_a_cancel_lose_no_byte data_and_a_scope_lose_no_byte",
    "CountsItems": "any_buffer_can_be_written",
    "EmptyIsTheEnd": "writing_nothing_means_nothing",
    "WritesPieceByPiece": "several_buffers_are_written_as_one",
    "LastWriterFirst": "writes_queue_in_the_order_of_their_calls",
    "OneLockForBoth": "directions_do_not_wait_for_each_other both_directions_carry_at_once",
    "DoneOffByOne": "a_write_cut_by_its_limit_says_what_was_sent "
    "a_cancelled_write_says_what_was_sent a_closed_write_says_what_was_sent "
    "a_torn_stream_refuses_further_writes",
    "ForgetsItIsTorn": "a_torn_stream_refuses_further_writes",
    "TornByAnyCut": "a_write_of_which_nothing_was_sent_leaves_the_stream_usable "
    "a_write_cut_in_the_queue_has_sent_nothing",
    "SendsWhatWasCutInTheQueue": "a_write_cut_in_the_queue_has_sent_nothing",
    "LIMIT_EARLY": "a_read_ends_at_its_limit a_write_ends_at_its_limit",
    "LIMIT_LATE": "a_read_ends_at_its_limit a_write_ends_at_its_limit",
    "LIMIT_IGNORED": "a_peer_that_does_not_read_makes_a_write_wait a_read_ends_at_its_limit",
    "ZERO_WAITS": "a_limit_of_zero_does_not_wait",
    "NONE_IS_DEFAULT": "none_means_no_limit",
    "DEFAULT_IS_NONE": "a_limit_left_out_is_that_of_the_connection",
    "DEADLINE_IS_A_DURATION": "a_deadline_is_shared_by_many_calls a_limit_of_zero_does_not_wait",
    "NAN_IS_NOW": "wrong_arguments_are_refused",
    "ZeroNeverTries": "a_limit_of_zero_takes_what_is_there",
    "LooksAtTheLimitFirst": "what_is_buffered_wins_over_a_limit_that_has_passed",
    "MisnamesTheLimit": "a_limit_left_out_is_that_of_the_connection "
    "the_earliest_of_all_limits_holds",
    "NamesNoPeer": "an_error_says_what_was_under_way",
    "OneDeadlineForBoth": "nettest_read_timeout nettest_write_timeout "
    "the_earliest_of_all_limits_holds",
    "IgnoresReadDeadline": "the_earliest_of_all_limits_holds nettest_present_timeout",
    "DeadlineForLaterCalls": "a_deadline_moved_earlier_is_obeyed_by_what_waits "
    "a_deadline_moved_later_is_obeyed_by_what_waits a_deadline_that_is_removed_ends_nothing "
    "nettest_present_timeout",
    "DeadAfterItsDeadline": "a_later_deadline_revives_a_stream",
    "CancelsItsTask": "a_limit_leaves_the_count_of_cancels_alone",
    "ShieldsItsReads": "a_scope_cuts_an_operation_and_what_came_is_kept",
    "AlwaysSuspends": "a_scope_in_which_nothing_waits_cuts_nothing",
    "LimitWinsOverCancel": "an_outside_cancel_wins_over_a_limit",
    "ClosesLater": "a_cancelled_close_has_closed",
    "CloseWaitsForThePeer": "a_close_does_not_wait_for_the_peer",
    "LeavesItsBlockOpen": "leaving_its_block_closes_a_stream",
    "KeepsBytesAfterTheEnd": "after_the_end_every_call_says_closed",
    "RaisesOneErrorAgain": "a_reset_is_no_end writing_to_a_peer_that_is_gone_fails",
    "DirectionsKeepTheirFailures": "a_reset_met_by_one_direction_is_told_by_the_other",
    "WriteEofOnce": "write_eof_may_be_repeated_and_ends_writing",
    "WriteEofOvertakes": "write_eof_comes_after_the_writes_that_queue",
    "WritesAfterTheEnd": "write_eof_may_be_repeated_and_ends_writing",
    "DiscardsWhatIsTooLong": "a_limit_that_is_exceeded_discards_nothing",
    "LimitOffByOne": "a_record_as_long_as_its_limit_is_not_too_long",
    "ReadAllDiscards": "more_than_read_all_may_hold_discards_nothing",
    "PutsAWholeRecordAside": "a_stream_holds_no_more_than_its_limit",
    "PreparesRoom": "a_size_that_was_only_promised_takes_no_memory",
    "NeverYields": "endless_small_reads_leave_turns endless_small_writes_leave_turns "
    "endless_failures_leave_turns",
    "CountsNothingSent": "statistics_count_both_directions",
    "TakesAnyNumber": "wrong_arguments_are_refused",
    "LosesItsStateInAPickle": "errors_survive_pickling",
}

SOCKETS = {
    "LeavesItsWatchers": "a_closed_stream_leaves_no_descriptor",
    "LeavesItsDescriptor": "a_closed_stream_leaves_no_descriptor",
    "DetachTakesBytes": "a_detached_socket_is_the_callers",
    "DetachForgetsToWake": "a_detached_socket_is_the_callers",
}


@pytest.fixture(autouse=True)
def on_one_loop(loop_variant: str) -> None:
    if loop_variant != "stock":
        pytest.skip("the clock is virtual, and so is the loop")


def pair_with(fault: str) -> MakePair:
    if fault == "ReadsAhead":
        return pair_of(channels.ReadsAhead, streams.ReadsAheadStream)
    if fault in CHANNELS:
        return pair_of(getattr(channels, fault))
    return pair_of(stream=getattr(streams, fault))


def report_of(make_pair: MakePair, **options: Any) -> ConformanceReport:
    """Of streams in memory, from one end, on a virtual clock."""

    async def look() -> ConformanceReport | None:
        with pytest.raises(NotConforming) as caught:
            await check_stream(make_pair, both_ways=False, check_timeout=HANGS_S, **options)
        return caught.value.report

    report = netio.testing.run(look())
    assert report is not None
    return report


@pytest.mark.parametrize("fault", [*CHANNELS, *STREAMS])
def test_a_planted_fault_breaks_the_promise_that_is_named(fault: str) -> None:
    named = ({**CHANNELS, **STREAMS}[fault]).split()
    report = report_of(pair_with(fault), only=named)
    assert {result.name for result in report.broken} == set(named), report
    for result in report.broken:
        assert result.seen
        # Not because the fault no longer fits the code that it is planted in.
        assert not any(name in result.seen for name in ("TypeError:", "AttributeError:"))


# Of these, everything that is broken is named.
EXACT = [
    "DropsSingleBytes", "HoldsTheCallersMemory", "ResetIsTheEnd", "ResetOvertakes",
    "CloseOverUnreadResets", "HalfCloseClosesBothWays", "ForgetsItsPeer", "DoesNotRearm",
    "RenewsWithEachChunk", "LeavesItsTimer", "LeavesATask", "DoneOffByOne", "ForgetsItIsTorn",
]  # fmt: skip


@pytest.mark.parametrize("fault", EXACT)
def test_a_planted_fault_breaks_nothing_else(fault: str) -> None:
    report = report_of(pair_with(fault))
    assert {result.name for result in report.broken} == set({**CHANNELS, **STREAMS}[fault].split())


@pytest.mark.parametrize("fault", SOCKETS)
def test_a_fault_of_a_socket_breaks_the_promise_that_is_named(fault: str) -> None:
    report = report_of(channels.sockets_of(getattr(channels, fault)), only=SOCKETS[fault])
    while channels.leftovers:
        channels.leftovers.pop().close()
    assert [result.name for result in report.broken] == [SOCKETS[fault]]


async def test_a_limit_that_is_not_looked_at_while_bytes_pour_in_is_found() -> None:
    make_pair = pair_of(stream=streams.LimitOnlyWhenDry)
    with pytest.raises(NotConforming, match="a_flood_does_not_outrun_a_limit"):
        await check_stream(make_pair, only="a_flood_does_not_outrun_a_limit", check_timeout=0.5)


def test_without_a_fault_nothing_is_broken() -> None:
    report = netio.testing.run(check_stream(pair_of(), both_ways=False))
    assert len(report.kept) > 100


def test_every_check_can_fail() -> None:
    named = " ".join((*CHANNELS.values(), *STREAMS.values(), *SOCKETS.values())).split()
    without = {check.name for check in stream_checks()} - set(named)
    assert without == {"a_flood_does_not_outrun_a_limit"}  # which has a test of its own
