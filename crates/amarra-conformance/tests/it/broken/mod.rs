//! Backends with one defect each, and the laws that notice it.

mod ambient;
mod backend;
mod broker;
mod inbox;
mod log;
mod store;
mod unit;

use std::cell::Cell;
use std::panic::catch_unwind;

use amarra_conformance as laws;
use amarra_conformance::Law;

use self::ambient::BrokenAmbient;
use self::backend::Broken;

/// What is wrong with a backend: defects that adapters have had, here or elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Nothing: the wrapper itself is right.
    None,
    SaveIgnoresTheVersion,
    LoadLocksInTheOrderAskedFor,
    LoadLocksNothing,
    FailedCallIsForgotten,
    NowPassesWithinAUnit,
    UnknownCommitIsCalledTransient,
    TransientCommitIsCalledUnknown,
    CommitSkipsTheViews,
    InboxIsAlwaysFresh,
    InboxForgetsTheGroup,
    InboxAdmitsOutsideTheTransaction,
    InboxIsAskedByOffset,
    InboxKeepsTheHighestPosition,
    InboxForgetsThePartition,
    InboxIgnoresTheTurn,
    InboxForgetsItsRows,
    InboxHidesGaps,
    InboxTakesGapsForDuplicates,
    OutboxOutsideTheTransaction,
    OutboxReversesACall,
    OutboxCutsLargeMessages,
    AuditOutsideTheTransaction,
    AuditDropsTheSecondRow,
    IdempotencyIgnoresTheRequest,
    IdempotencyForgetsThePrincipal,
    IdempotencyRecordsNothing,
    IdempotencyIgnoresOthersInFlight,
    VerifyTrustsTheClaim,
    VerifyChecksOutsideTheTransaction,
    ClaimsHaveNoLease,
    ClaimsForgetTheKind,
    ScheduleKeepsTheClaim,
    ParkingIsNotAsked,
    ParkingForgetsTheReason,
    ParkingTakesTheNewest,
    ViewsOutsideTheTransaction,
    PagesCountRows,
    PagesTakePrefixesForRanges,
    LogIgnoresFences,
    LogSortsByTransactionId,
    LogWaitsForOpenTransactions,
    LogReadsAfterTheHighestSequence,
    LogForgetsTheOpenBatch,
    LogResumesWithoutParkedKeys,
    LogResumesAtTheStart,
    LogLeasesToAnybody,
    LogNeverExpires,
    LogSettlesTheWholeKey,
    LogKeepsWhatIsGivenBack,
    LogAcceptsStepsBack,
    LogIgnoresWhatIsParkedAgain,
    LogTellsOfOneAppend,
    TimersAreAlwaysDue,
    SessionsFenceNobody,
    SessionsForgetTheirOutbox,
    SessionHidesThatItIsFenced,
    SessionPublishesTwice,
    SessionReversesACall,
    SessionCountsTheRefusedRecord,
    SessionAcknowledgesBeforeItStores,
    SessionHashesOtherwise,
    SessionSplitsACall,
    SessionDropsEmptyValues,
    ConsumerCommitsForAnyGeneration,
    ConsumerCommitsByItself,
    ConsumerSkipsTheFirstRecord,
    ConsumerIgnoresThePause,
    ConsumerForgetsItsCommits,
    ConsumerTakesBeforeItWaits,
    ConsumerHidesARevocation,
    ConsumerIgnoresSeeks,
    ConsumerNumbersRecordsItself,
    ConsumerHandsOutWhatIsNotStored,
    ConsumerSleepsItsWaitOut,
    ConsumerCommitsThePartitionOfAnyTopic,
    HandlerWorksBesideItsSession,
    HandlerRefusesUnknownTypes,
    HandlerForgetsTheCause,
    CommandWorksBesideItsSession,
}

thread_local! {
    static DEFECT: Cell<Defect> = const { Cell::new(Defect::None) };
}

/// Returns the defect that the test on this thread asked for.
pub fn current() -> Defect {
    DEFECT.get()
}

type Check = fn(&str) -> bool;

/// Asserts that the backend with `defect` breaks each of the named laws.
fn noticed(defect: Defect, suites: &[(&[Law], Check, &[&str])]) {
    for (laws, check, names) in suites {
        for name in *names {
            assert!(laws.iter().any(|law| law.name == *name), "there is no law {name}");
            DEFECT.set(Defect::None);
            assert!(check(name), "the wrapper without a defect");
            DEFECT.set(defect);
            assert!(catch_unwind(|| check(name)).is_err(), "{defect:?} passes {name}");
        }
    }
}

macro_rules! defects {
    ($($test:ident: $defect:ident breaks $($suite:ident [$($name:ident),+ $(,)?])+;)+) => {$(
        #[test]
        fn $test() {
            noticed(Defect::$defect, &[$((
                laws::$suite::LAWS,
                laws::$suite::check::<Broken>,
                &[$(stringify!($name)),+],
            )),+]);
        }
    )+};
}

defects! {
    versions_are_checked: SaveIgnoresTheVersion breaks
        unit [
            uow_3_a_stale_version_conflicts_and_changes_nothing,
            uow_3_a_version_from_the_future_conflicts,
            uow_3_creating_what_exists_conflicts,
            uow_3_of_two_that_create_one_id_one_conflicts,
        ];
    locks_are_taken_in_id_order: LoadLocksInTheOrderAskedFor breaks unit [
        uow_1_units_that_load_in_opposite_orders_do_not_deadlock,
        uow_1_random_sets_never_deadlock,
        uow_11_units_that_load_views_in_opposite_orders_do_not_deadlock,
    ];
    loaded_is_locked: LoadLocksNothing breaks unit [
        uow_1_what_is_absent_is_locked_too,
        uow_2_a_locked_aggregate_is_changed_by_nobody_else,
    ];
    a_failed_unit_is_over: FailedCallIsForgotten breaks unit [
        uow_5_a_unit_with_a_failed_call_leaves_no_trace,
    ];
    a_unit_has_one_time: NowPassesWithinAUnit breaks unit [uow_4_the_time_of_a_unit_does_not_pass];
    unknown_is_not_transient: UnknownCommitIsCalledTransient breaks
        unit [
            uow_6_a_lost_answer_is_unknown_and_everything_is_applied,
            uow_6_a_lost_request_is_unknown_and_nothing_is_applied,
        ]
        outbox [obx_1_an_unknown_commit_publishes_exactly_when_it_was_applied]
        processor [prc_2_applying_again_after_an_unknown_commit_applies_once];
    transient_is_not_unknown: TransientCommitIsCalledUnknown breaks
        unit [uow_6_a_connection_lost_before_the_commit_surely_applied_nothing]
        processor [prc_1_a_transient_failure_leaves_no_trace]
        command [cmd_1_a_command_survives_a_lost_connection];
    all_of_a_unit_is_committed: CommitSkipsTheViews breaks unit [
        uow_4_everything_is_visible_after_the_commit,
        uow_7_a_committed_unit_survives_a_crash,
    ];
    admissions_are_remembered: InboxIsAlwaysFresh breaks
        inbox [
            inb_1_a_message_is_fresh_once_and_a_duplicate_ever_after,
            inb_1_of_many_at_once_exactly_one_is_fresh_and_commits,
            inb_1_an_admission_survives_a_crash,
        ]
        processor [
            prc_1_a_duplicate_within_a_batch_is_skipped,
            prc_2_applying_a_batch_again_changes_nothing,
            prc_2_applying_again_after_an_unknown_commit_applies_once,
            prc_2_two_that_apply_one_batch_at_once_apply_it_once,
        ]
        inbox_window [
            inb_1_in_a_window_each_position_is_fresh_once,
            inb_1_in_a_window_of_many_at_once_exactly_one_is_fresh,
            inb_1_in_a_window_batches_at_once_apply_each_position_once,
            inb_1_a_window_survives_a_crash,
            inb_1_a_window_is_marked_exactly_when_an_unknown_commit_was_applied,
            inb_5_a_position_below_the_window_is_a_duplicate,
            inb_5_a_message_without_a_position_is_decided_by_its_id,
        ]
        inbox_offset [
            inb_1_each_offset_is_fresh_once,
            inb_1_by_offset_of_many_at_once_exactly_one_is_fresh,
            inb_1_by_offset_batches_at_once_apply_each_message_once,
            inb_1_an_offset_survives_a_crash,
            inb_1_an_offset_moves_exactly_when_an_unknown_commit_was_applied,
            inb_6_everything_below_the_highest_offset_is_a_duplicate,
            inb_6_a_zombie_behind_its_successor_admits_nothing,
        ];
    groups_admit_for_themselves: InboxForgetsTheGroup breaks inbox [
        inb_3_each_group_admits_for_itself,
    ];
    admissions_are_rolled_back: InboxAdmitsOutsideTheTransaction breaks inbox [
        inb_2_a_rolled_back_admission_leaves_no_trace,
        inb_2_a_commit_surely_not_applied_leaves_no_trace,
        inb_4_an_admission_in_progress_is_never_answered_duplicate,
        inb_4_after_a_rollback_the_one_that_waited_is_fresh,
    ]
        inbox_window [
            inb_2_a_mark_that_is_rolled_back_is_not_in_its_window,
            inb_4_a_position_in_progress_is_never_answered_duplicate,
            inb_4_after_a_rollback_the_position_that_waited_is_fresh,
        ]
        inbox_offset [
            inb_2_an_offset_that_is_rolled_back_has_not_moved,
            inb_4_an_offset_in_progress_is_never_answered_duplicate,
            inb_4_after_a_rollback_the_offset_that_waited_is_fresh,
        ];
    messages_are_known_by_id: InboxIsAskedByOffset breaks inbox [
        inb_1_a_message_published_twice_is_a_duplicate_at_its_second_offset,
    ];
    positions_are_told_apart: InboxKeepsTheHighestPosition breaks inbox_window [
        inb_5_a_position_below_the_window_is_a_duplicate,
        inb_5_a_position_that_was_passed_over_is_fresh,
        inb_7_positions_missing_where_they_are_dense_are_reported,
    ];
    partitions_are_told_apart: InboxForgetsThePartition breaks
        inbox_window [inb_3_each_group_partition_and_shard_has_its_own_window]
        inbox_offset [inb_3_each_group_topic_and_partition_has_its_own_offset];
    late_is_not_in_order: InboxIgnoresTheTurn breaks
        inbox_window [
            inb_5_a_released_message_below_the_window_is_fresh_once,
            inb_5_a_replayed_message_below_the_window_is_fresh_once,
        ]
        inbox_offset [
            inb_6_a_replayed_message_is_decided_by_its_id,
            inb_8_what_was_admitted_by_id_is_a_duplicate_by_offset,
        ];
    rows_count_in_every_mode: InboxForgetsItsRows breaks
        inbox_window [inb_8_what_was_admitted_by_id_is_a_duplicate_in_its_window]
        inbox_offset [inb_8_what_was_admitted_by_id_is_a_duplicate_by_offset];
    gaps_are_told: InboxHidesGaps breaks
        inbox_window [inb_7_positions_missing_where_they_are_dense_are_reported]
        inbox_offset [inb_7_offsets_missing_where_they_are_dense_are_reported];
    gaps_are_applied: InboxTakesGapsForDuplicates breaks
        inbox_window [inb_7_positions_missing_where_they_are_dense_are_reported]
        inbox_offset [inb_7_offsets_missing_where_they_are_dense_are_reported];
    outbox_rows_are_the_transactions: OutboxOutsideTheTransaction breaks
        outbox [
            obx_1_a_message_is_not_published_before_its_commit,
            obx_1_a_message_rolled_back_is_never_published,
            obx_1_an_unknown_commit_publishes_exactly_when_it_was_applied,
        ]
        unit [
            uow_4_nothing_is_visible_before_the_commit,
            uow_5_a_dropped_unit_leaves_no_trace,
        ];
    a_call_is_appended_in_order: OutboxReversesACall breaks outbox [
        obx_2_one_transaction_appends_in_call_order,
    ];
    large_messages_are_refused: OutboxCutsLargeMessages breaks outbox [
        obx_4_a_message_above_the_bound_is_refused_with_all_of_its_call,
    ];
    audit_rows_are_the_transactions: AuditOutsideTheTransaction breaks unit [
        uow_4_nothing_is_visible_before_the_commit,
        uow_8_the_chain_is_in_commit_order,
        uow_8_a_rollback_leaves_no_gap_in_the_chain,
    ];
    audit_rows_are_all_kept: AuditDropsTheSecondRow breaks unit [
        uow_8_audit_rows_are_dense_and_chained,
        uow_8_the_chain_goes_on_after_a_crash,
    ];
    a_key_is_for_one_request: IdempotencyIgnoresTheRequest breaks unit [
        uow_9_another_request_of_the_same_key_is_a_mismatch,
    ];
    a_key_is_for_one_principal: IdempotencyForgetsThePrincipal breaks unit [
        uow_9_principals_routes_and_keys_are_told_apart,
    ];
    responses_are_kept: IdempotencyRecordsNothing breaks unit [
        uow_9_a_recorded_response_is_replayed,
        uow_9_a_response_survives_a_crash,
        uow_9_an_unknown_commit_is_found_by_its_key,
    ];
    running_keys_are_seen: IdempotencyIgnoresOthersInFlight breaks unit [
        uow_9_a_running_key_is_in_flight,
    ];
    claims_are_compared: VerifyTrustsTheClaim breaks
        unit [
            uow_10_a_superseded_claim_is_fenced,
            uow_10_a_claim_that_was_acted_on_is_over,
            uow_10_a_claim_of_another_aggregate_proves_nothing,
        ]
        timer [
            tim_2_after_its_lease_a_claim_is_superseded_at_a_higher_epoch,
            tim_2_a_claim_of_the_same_owner_supersedes_its_earlier_one,
            tim_2_scheduling_ends_a_claim,
        ];
    verified_claims_are_locked: VerifyChecksOutsideTheTransaction breaks unit [
        uow_10_a_verified_claim_is_superseded_by_nobody_before_the_end,
    ];
    claims_last: ClaimsHaveNoLease breaks timer [
        tim_1_a_due_timer_is_claimed_by_one_owner,
        tim_1_of_many_that_ask_at_once_one_gets_it,
    ];
    claims_are_of_their_kind: ClaimsForgetTheKind breaks timer [
        tim_1_only_the_kind_asked_for_is_claimed,
    ];
    scheduling_ends_claims: ScheduleKeepsTheClaim breaks
        timer [tim_2_scheduling_ends_a_claim]
        unit [uow_10_a_claim_that_was_acted_on_is_over];
    parked_keys_are_known: ParkingIsNotAsked breaks
        parking [
            prk_2_a_key_is_parked_until_its_last_message_left,
            prk_2_a_parked_key_survives_a_crash,
            prk_3_a_unit_sees_its_own_parking,
        ]
        processor [prc_3_followers_of_a_parked_key_are_parked_behind_it];
    parking_keeps_what_it_was_given: ParkingForgetsTheReason breaks parking [
        prk_1_a_delivery_comes_back_untouched_with_its_reason,
    ];
    parking_is_a_queue: ParkingTakesTheNewest breaks
        parking [
            prk_1_a_key_leaves_in_the_order_it_was_parked,
            prk_1_keys_do_not_wait_for_each_other,
        ]
        processor [prc_3_followers_of_a_parked_key_are_parked_behind_it];
    views_are_the_transactions: ViewsOutsideTheTransaction breaks read_model [
        rdm_1_a_row_is_not_seen_before_its_commit,
        rdm_1_a_row_rolled_back_is_never_seen,
        rdm_1_rows_written_together_are_seen_together,
    ];
    pages_go_by_key: PagesCountRows breaks read_model [
        rdm_2_rows_inserted_meanwhile_hide_and_double_none,
        rdm_2_rows_deleted_meanwhile_hide_and_double_none_of_the_others,
    ];
    prefixes_are_literal: PagesTakePrefixesForRanges breaks read_model [
        rdm_2_a_prefix_bounds_the_pages,
    ];
    relays_are_fenced: LogIgnoresFences breaks log [
        obl_1_an_expired_lease_is_taken_over_at_a_higher_epoch,
        obl_5_a_checkpoint_of_a_superseded_epoch_changes_nothing,
        obl_5_parking_under_a_superseded_epoch_changes_nothing,
        obl_5_settling_under_a_superseded_epoch_changes_nothing,
    ];
    litmus_of_order_by_transaction_id: LogSortsByTransactionId breaks
        log [
            obl_3_litmus_s1_early_transaction_id_late_lock,
            obl_3_random_schedules_lose_double_and_reorder_nothing,
        ]
        outbox [obx_3_an_early_transaction_that_locks_late_comes_second];
    litmus_of_the_xmin_gate: LogWaitsForOpenTransactions breaks log [
        obl_3_litmus_s2_unrelated_transaction_between_two_versions,
        obl_4_an_open_transaction_delays_its_own_rows_only,
        obl_4_many_open_transactions_delay_nobody,
    ];
    litmus_of_the_sequence_cursor: LogReadsAfterTheHighestSequence breaks log [
        obl_3_litmus_s3_late_commit_of_a_lower_sequence_value,
        obl_3_late_commits_are_returned_once_each,
        obl_3_random_schedules_lose_double_and_reorder_nothing,
    ];
    open_batches_are_stable: LogForgetsTheOpenBatch breaks log [
        obl_2_an_open_batch_reads_the_same_for_ever,
        obl_2_another_relay_finds_the_same_batch,
    ];
    parked_keys_are_resumed: LogResumesWithoutParkedKeys breaks log [
        obl_6_resume_names_every_parked_key,
        obl_6_a_saved_cursor_survives_a_crash,
        obl_6_a_key_is_parked_until_its_last_row_is_settled,
    ];
    cursors_are_resumed: LogResumesAtTheStart breaks log [
        obl_3_a_takeover_mid_batch_loses_and_doubles_nothing,
        obl_6_resume_returns_the_cursor_last_saved_by_any_epoch,
    ];
    shards_have_one_owner: LogLeasesToAnybody breaks log [
        obl_1_a_leased_shard_is_nobody_elses,
        obl_1_of_two_that_ask_at_once_one_gets_each_shard,
    ];
    leases_expire: LogNeverExpires breaks log [
        obl_1_an_expired_lease_is_taken_over_at_a_higher_epoch,
        obl_1_giving_back_a_superseded_lease_is_ignored,
    ];
    settling_is_by_row: LogSettlesTheWholeKey breaks log [
        obl_6_a_key_is_parked_until_its_last_row_is_settled,
    ];
    given_back_is_given_back: LogKeepsWhatIsGivenBack breaks log [
        obl_1_a_lease_given_back_is_superseded_at_once,
        obl_1_a_lease_given_back_is_free_at_once_at_a_higher_epoch,
    ];
    cursors_go_forward: LogAcceptsStepsBack breaks log [
        obl_7_a_cursor_does_not_go_back_within_an_epoch,
        obl_7_a_cursor_does_not_go_back_in_a_later_epoch,
    ];
    refused_again_is_parked_again: LogIgnoresWhatIsParkedAgain breaks log [
        obl_6_a_released_row_that_is_parked_again_holds_its_key_back,
    ];
    every_append_is_told: LogTellsOfOneAppend breaks log [
        obl_8_a_log_that_tells_of_one_append_tells_of_the_next,
    ];
    due_is_due: TimersAreAlwaysDue breaks timer [
        tim_4_the_next_due_time_is_that_of_the_first_timer,
        tim_4_a_claimed_timer_is_next_due_when_its_lease_ends,
    ];
    sessions_fence: SessionsFenceNobody breaks transport [
        trn_1_a_newer_session_fences_the_older_one,
        trn_1_an_older_epoch_does_not_open_any_more,
        trn_1_an_epoch_survives_a_crash,
        trn_5_a_fenced_session_stores_nothing,
        trn_5_a_zombie_among_its_successors_calls_stores_nothing,
        trn_1_of_many_that_open_at_once_the_newest_remains,
        trn_1_epochs_may_skip_numbers,
        trn_1_a_dropped_session_leaves_its_fence,
        trn_5_nothing_of_a_zombie_follows_its_successors_records,
    ];
    outboxes_have_their_own_fences: SessionsForgetTheirOutbox breaks transport [
        trn_1_outboxes_do_not_fence_each_other,
    ];
    fenced_sessions_say_so: SessionHidesThatItIsFenced breaks transport [
        trn_1_a_newer_session_fences_the_older_one,
        trn_5_a_fenced_session_stores_nothing,
    ];
    records_are_stored_once: SessionPublishesTwice breaks transport [
        trn_1_a_newer_session_fences_the_older_one,
        trn_2_an_acknowledged_record_is_readable_as_it_was_given,
        trn_3_one_call_stores_each_key_in_order,
        trn_2_an_empty_value_is_stored,
        trn_2_a_call_of_records_at_the_bound_is_stored,
        trn_2_sessions_side_by_side_store_everything,
        trn_5_nothing_of_a_zombie_follows_its_successors_records,
        trn_7_a_call_whose_request_was_lost_is_readable_whole_or_not,
    ];
    records_are_stored_in_order: SessionReversesACall breaks transport [
        trn_3_one_call_stores_each_key_in_order,
        trn_3_calls_store_each_key_in_call_order,
        trn_4_after_a_lost_request_publishing_again_completes_in_order,
        trn_2_a_long_call_is_stored_to_its_end,
        trn_2_a_call_to_several_topics_stores_in_each,
        trn_2_publishing_goes_on_after_a_crash,
        trn_3_keys_of_several_topics_are_ordered_in_each,
        trn_3_order_holds_over_takeovers_there_and_back,
    ];
    refusals_name_the_record: SessionCountsTheRefusedRecord breaks transport [
        trn_4_a_refused_record_is_named_and_those_before_it_are_stored,
        trn_4_a_refused_first_record_stands_for_itself,
    ];
    acknowledged_is_stored: SessionAcknowledgesBeforeItStores breaks transport [
        trn_4_after_a_lost_request_publishing_again_completes_in_order,
        trn_3_a_retry_inside_the_session_stores_nothing_twice,
        trn_4_one_loss_after_another_loses_and_reorders_nothing,
    ];
    keys_go_by_murmur2: SessionHashesOtherwise breaks transport [
        trn_6_keys_go_where_kafka_puts_them,
    ]
        consumer [con_2_a_record_says_where_it_lies];
    calls_are_whole: SessionSplitsACall breaks transport [
        trn_7_a_call_whose_answer_was_lost_is_readable_whole_or_not,
        trn_7_a_call_that_was_dropped_is_readable_whole_or_not,
    ];
    empty_is_stored: SessionDropsEmptyValues breaks transport [trn_2_an_empty_value_is_stored];
    old_generations_are_refused: ConsumerCommitsForAnyGeneration breaks consumer [
        con_4_accepted_commits_never_go_back_over_random_rebalances,
        con_4_a_commit_of_an_older_generation_is_refused,
        con_4_a_commit_of_a_foreign_partition_is_refused,
        con_4_a_commit_before_any_assignment_is_refused,
        con_4_a_commit_after_a_revocation_is_refused,
    ];
    nothing_is_committed_by_itself: ConsumerCommitsByItself breaks consumer [
        con_3_uncommitted_records_come_again_after_a_restart,
        con_3_uncommitted_records_come_again_after_a_rebalance,
        con_3_uncommitted_records_come_again_after_a_broker_crash,
        con_6_reading_commits_nothing,
        con_6_joining_and_leaving_commit_nothing,
        con_6_a_rebalance_commits_nothing,
        con_5_topics_commit_for_themselves,
    ];
    reading_starts_at_the_offset: ConsumerSkipsTheFirstRecord breaks consumer [
        con_2_records_come_in_offset_order_without_gaps,
        con_2_reading_starts_at_the_committed_offset,
        con_5_a_committed_offset_survives_the_member,
        con_2_a_long_backlog_is_read_to_its_end,
        con_2_a_record_at_the_bound_comes_whole,
        con_2_several_topics_come_each_in_order,
        con_7_every_group_finds_a_record_at_its_offset,
    ];
    paused_is_paused: ConsumerIgnoresThePause breaks consumer [
        con_2_a_paused_partition_hands_out_nothing,
        con_2_a_resumed_partition_goes_on_where_it_stopped,
        con_2_pausing_twice_is_pausing_once,
        con_2_a_seek_of_a_paused_partition_counts_when_it_is_resumed,
    ];
    commits_are_kept: ConsumerForgetsItsCommits breaks consumer [
        con_2_reading_starts_at_the_committed_offset,
        con_5_a_committed_offset_survives_the_member,
        con_5_a_committed_offset_survives_a_broker_crash,
        con_5_committing_again_changes_nothing,
        con_4_after_a_rebalance_each_commits_its_own,
        con_5_one_call_commits_several_partitions,
        con_5_a_later_commit_replaces_an_earlier_one,
        con_5_a_commit_at_the_end_leaves_what_comes,
    ];
    a_dropped_poll_is_harmless: ConsumerTakesBeforeItWaits breaks consumer [
        con_3_a_dropped_poll_loses_no_record,
    ];
    revocations_are_told: ConsumerHidesARevocation breaks consumer [
        con_1_one_more_member_takes_over_a_part,
        con_3_a_rebalance_amid_a_backlog_loses_nothing,
    ];
    seeks_count: ConsumerIgnoresSeeks breaks consumer [
        con_2_seek_reads_from_the_offset_on,
        con_2_a_seek_leaves_other_partitions_where_they_are,
        con_2_a_seek_of_a_paused_partition_counts_when_it_is_resumed,
        con_2_the_last_of_two_seeks_counts,
    ];
    offsets_are_the_brokers: ConsumerNumbersRecordsItself breaks consumer [
        con_2_a_record_says_where_it_lies,
        con_2_reading_starts_at_the_committed_offset,
        con_7_every_group_finds_a_record_at_its_offset,
    ];
    read_is_stored: ConsumerHandsOutWhatIsNotStored breaks consumer [
        con_7_a_record_read_while_it_is_published_stays,
        con_7_a_record_that_was_read_survives_a_crash,
        con_7_a_record_read_before_a_takeover_stays,
    ];
    a_record_ends_the_wait: ConsumerSleepsItsWaitOut breaks consumer [
        con_2_a_wait_ends_with_the_first_record,
    ];
    topics_are_told_apart: ConsumerCommitsThePartitionOfAnyTopic breaks consumer [
        con_5_topics_commit_for_themselves,
    ];
    handlers_use_their_session: HandlerWorksBesideItsSession breaks handler [
        hnd_1_handling_again_after_a_rollback_does_the_same,
    ];
    handlers_let_unknown_types_through: HandlerRefusesUnknownTypes breaks handler [
        hnd_2_an_unknown_type_is_let_through_and_changes_nothing,
    ];
    handlers_keep_the_cause: HandlerForgetsTheCause breaks handler [
        hnd_1_what_a_message_changes_is_stamped_with_its_cause,
    ];
    commands_use_their_session: CommandWorksBesideItsSession breaks command [
        cmd_1_a_command_rolled_back_leaves_no_trace,
        cmd_1_a_command_run_again_does_the_same_once,
    ];
}

macro_rules! ambient_defects {
    ($($test:ident: $number:literal breaks $suite:ident [$($name:ident),+ $(,)?];)+) => {$(
        #[test]
        fn $test() {
            for name in [$(stringify!($name)),+] {
                assert!(laws::$suite::LAWS.iter().any(|law| law.name == name));
                assert!(laws::$suite::check::<BrokenAmbient<0>>(name), "without a defect");
                let broken = || laws::$suite::check::<BrokenAmbient<$number>>(name);
                assert!(catch_unwind(broken).is_err(), "a defect passes {name}");
            }
        }
    )+};
}

ambient_defects! {
    monotonic_time_is_not_wall_time: 1 breaks clock [
        clk_2_a_jump_of_the_wall_clock_moves_no_monotonic_time,
    ];
    waits_do_not_end_early: 2 breaks clock [
        tmr_1_a_wait_never_ends_early,
        tmr_1_many_waits_each_end_at_their_own_point,
    ];
    seeds_are_used: 3 breaks entropy [ent_1_another_seed_gives_other_bytes];
    seeded_streams_repeat: 4 breaks entropy [ent_1_the_same_seed_and_calls_give_the_same_bytes];
    draws_are_random: 5 breaks entropy [
        ent_2_draws_do_not_repeat,
        ent_2_bits_are_balanced,
        ent_2_every_byte_is_filled,
    ];
    processes_differ: 6 breaks entropy [ent_2_two_processes_draw_different_bytes];
    upcasts_are_registered: 7 breaks codec [cdc_2_every_older_version_decodes_to_what_it_meant];
    upcasts_keep_the_meaning: 8 breaks codec [cdc_2_every_older_version_decodes_to_what_it_meant];
}
