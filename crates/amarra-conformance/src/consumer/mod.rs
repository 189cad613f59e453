//! The laws of `Consumer`: one owner per partition, order, redelivery, and fenced commits.

mod commit;
mod flow;
mod group;
mod handover;
mod lasting;
mod read;

use crate::backend::BrokerBackend;
use crate::law::suite;

pub use commit::*;
pub use flow::*;
pub use group::*;
pub use handover::*;
pub use lasting::*;
pub use read::*;

suite! {
    ($)
    /// Expands to the laws of `Consumer` for one `BrokerBackend`.
    consumer_laws in consumer for BrokerBackend {
        Consumer:
            "CON-1" con_1_members_share_all_partitions_and_none_twice,
            "CON-1" con_1_one_more_member_takes_over_a_part,
            "CON-1" con_1_a_member_that_leaves_hands_its_partitions_over,
            "CON-1" con_1_a_silent_member_is_replaced,
            "CON-1" con_1_more_members_than_partitions_leave_some_idle,
            "CON-1" con_1_groups_do_not_share_partitions,
            "CON-1" con_1_a_member_of_two_topics_is_assigned_both,
            "CON-1" con_1_a_member_that_comes_back_under_its_name_is_assigned,
            "CON-1" con_1_members_that_leave_one_by_one_hand_everything_over,
            "CON-2" con_2_records_come_in_offset_order_without_gaps,
            "CON-2" con_2_reading_starts_at_the_committed_offset,
            "CON-2" con_2_records_published_meanwhile_follow,
            "CON-2" con_2_a_paused_partition_hands_out_nothing,
            "CON-2" con_2_a_resumed_partition_goes_on_where_it_stopped,
            "CON-2" con_2_seek_reads_from_the_offset_on,
            "CON-2" con_2_an_empty_topic_is_idle,
            "CON-2" con_2_a_poll_brings_at_most_its_limit,
            "CON-2" con_2_a_long_backlog_is_read_to_its_end,
            "CON-2" con_2_several_topics_come_each_in_order,
            "CON-2" con_2_a_record_says_where_it_lies,
            "CON-2" con_2_a_wait_ends_with_the_first_record,
            "CON-2" con_2_a_record_at_the_bound_comes_whole,
            "CON-2" con_2_pausing_twice_is_pausing_once,
            "CON-2" con_2_a_seek_leaves_other_partitions_where_they_are,
            "CON-2" con_2_a_seek_of_a_paused_partition_counts_when_it_is_resumed,
            "CON-2" con_2_a_seek_to_the_end_waits_for_what_comes,
            "CON-2" con_2_the_last_of_two_seeks_counts,
            "CON-2" con_2_a_pause_is_this_members_alone,
            "CON-3" con_3_uncommitted_records_come_again_after_a_restart,
            "CON-3" con_3_uncommitted_records_come_again_after_a_rebalance,
            "CON-3" con_3_uncommitted_records_come_again_after_a_broker_crash,
            "CON-3" con_3_a_dropped_poll_loses_no_record,
            "CON-3" con_3_a_rebalance_amid_a_backlog_loses_nothing,
            "CON-3" con_3_a_member_reads_on_after_a_broker_crash,
            "CON-4" con_4_a_commit_of_an_older_generation_is_refused,
            "CON-4" con_4_a_commit_of_a_foreign_partition_is_refused,
            "CON-4" con_4_accepted_commits_never_go_back_over_random_rebalances,
            "CON-4" con_4_a_commit_before_any_assignment_is_refused,
            "CON-4" con_4_a_commit_after_a_revocation_is_refused,
            "CON-4" con_4_after_a_rebalance_each_commits_its_own,
            "CON-5" con_5_a_committed_offset_survives_the_member,
            "CON-5" con_5_a_committed_offset_survives_a_broker_crash,
            "CON-5" con_5_committing_again_changes_nothing,
            "CON-5" con_5_groups_commit_for_themselves,
            "CON-5" con_5_one_call_commits_several_partitions,
            "CON-5" con_5_a_later_commit_replaces_an_earlier_one,
            "CON-5" con_5_a_commit_at_the_end_leaves_what_comes,
            "CON-5" con_5_topics_commit_for_themselves,
            "CON-6" con_6_reading_commits_nothing,
            "CON-6" con_6_seeking_and_pausing_commit_nothing,
            "CON-6" con_6_joining_and_leaving_commit_nothing,
            "CON-6" con_6_a_rebalance_commits_nothing,
            "CON-7" con_7_a_record_read_while_it_is_published_stays,
            "CON-7" con_7_a_record_that_was_read_survives_a_crash,
            "CON-7" con_7_every_group_finds_a_record_at_its_offset,
            "CON-7" con_7_a_record_read_before_a_takeover_stays;
    }
}
