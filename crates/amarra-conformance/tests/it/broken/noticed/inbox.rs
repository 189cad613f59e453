//! Defects of inboxes, in each of their modes.

use super::defects;

defects! {
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
}
