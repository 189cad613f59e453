//! Defects of units of work, their audit rows and idempotency keys.

use super::defects;

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
}
