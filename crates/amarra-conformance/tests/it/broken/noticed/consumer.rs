//! Defects of group members.

use super::defects;

defects! {
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
}
