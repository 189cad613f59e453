//! Defects of the relay's side of the outbox.

use super::defects;

defects! {
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
}
