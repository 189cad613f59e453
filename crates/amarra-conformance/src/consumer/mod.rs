//! The laws of `Consumer`: one owner per partition, order, redelivery, and fenced commits.

mod commit;
mod group;
mod read;

use crate::backend::BrokerBackend;
use crate::law::suite;

pub use commit::*;
pub use group::*;
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
            "CON-2" con_2_records_come_in_offset_order_without_gaps,
            "CON-2" con_2_reading_starts_at_the_committed_offset,
            "CON-2" con_2_records_published_meanwhile_follow,
            "CON-2" con_2_a_paused_partition_hands_out_nothing,
            "CON-2" con_2_a_resumed_partition_goes_on_where_it_stopped,
            "CON-2" con_2_seek_reads_from_the_offset_on,
            "CON-2" con_2_an_empty_topic_is_idle,
            "CON-3" con_3_uncommitted_records_come_again_after_a_restart,
            "CON-3" con_3_uncommitted_records_come_again_after_a_rebalance,
            "CON-3" con_3_uncommitted_records_come_again_after_a_broker_crash,
            "CON-3" con_3_a_dropped_poll_loses_no_record,
            "CON-4" con_4_a_commit_of_an_older_generation_is_refused,
            "CON-4" con_4_a_commit_of_a_foreign_partition_is_refused,
            "CON-4" con_4_accepted_commits_never_go_back_over_random_rebalances,
            "CON-4" con_4_a_commit_before_any_assignment_is_refused,
            "CON-5" con_5_a_committed_offset_survives_the_member,
            "CON-5" con_5_a_committed_offset_survives_a_broker_crash,
            "CON-5" con_5_committing_again_changes_nothing,
            "CON-5" con_5_groups_commit_for_themselves,
            "CON-6" con_6_reading_commits_nothing,
            "CON-6" con_6_seeking_and_pausing_commit_nothing;
    }
}
