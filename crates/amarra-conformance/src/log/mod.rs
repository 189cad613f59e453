//! The laws of `OutboxLog`: leases with fencing, stable batches, and every committed row once.

mod batch;
mod lease;
mod order;
mod parked;

use crate::backend::StoreBackend;
use crate::law::suite;

pub use batch::*;
pub use lease::*;
pub use order::*;
pub use parked::*;

suite! {
    ($)
    /// Expands to the laws of `OutboxLog` for one `StoreBackend`.
    outbox_log_laws in log for StoreBackend {
        OutboxLog:
            "OBL-1" obl_1_a_leased_shard_is_nobody_elses,
            "OBL-1" obl_1_of_two_that_ask_at_once_one_gets_each_shard,
            "OBL-1" obl_1_an_expired_lease_is_taken_over_at_a_higher_epoch,
            "OBL-1" obl_1_a_renewed_lease_lives_on_at_its_epoch,
            "OBL-1" obl_1_a_lease_given_back_is_free_at_once_at_a_higher_epoch,
            "OBL-1" obl_1_giving_back_a_superseded_lease_is_ignored,
            "OBL-1" obl_1_a_lease_given_back_is_superseded_at_once,
            "OBL-1" obl_1_the_limit_counts_held_shards_first,
            "OBL-2" obl_2_an_open_batch_reads_the_same_for_ever,
            "OBL-2" obl_2_a_chunk_goes_on_after_the_last_sequence_value,
            "OBL-2" obl_2_chunks_of_any_size_make_the_same_batch,
            "OBL-2" obl_2_a_closed_batch_is_not_returned_again,
            "OBL-2" obl_2_another_relay_finds_the_same_batch,
            "OBL-3" obl_3_litmus_s1_early_transaction_id_late_lock,
            "OBL-3" obl_3_litmus_s2_unrelated_transaction_between_two_versions,
            "OBL-3" obl_3_litmus_s3_late_commit_of_a_lower_sequence_value,
            "OBL-3" obl_3_late_commits_are_returned_once_each,
            "OBL-3" obl_3_random_schedules_lose_double_and_reorder_nothing,
            "OBL-3" obl_3_a_takeover_mid_batch_loses_and_doubles_nothing,
            "OBL-3" obl_3_a_crash_of_the_database_loses_no_row,
            "OBL-4" obl_4_an_open_transaction_delays_its_own_rows_only,
            "OBL-4" obl_4_many_open_transactions_delay_nobody,
            "OBL-5" obl_5_a_checkpoint_of_a_superseded_epoch_changes_nothing,
            "OBL-5" obl_5_parking_under_a_superseded_epoch_changes_nothing,
            "OBL-5" obl_5_settling_under_a_superseded_epoch_changes_nothing,
            "OBL-5" obl_5_the_newest_epoch_is_served,
            "OBL-6" obl_6_a_fresh_shard_resumes_at_the_start,
            "OBL-6" obl_6_resume_returns_the_cursor_last_saved_by_any_epoch,
            "OBL-6" obl_6_a_saved_cursor_survives_a_crash,
            "OBL-6" obl_6_resume_names_every_parked_key,
            "OBL-6" obl_6_a_key_is_parked_until_its_last_row_is_settled,
            "OBL-6" obl_6_parking_twice_keeps_the_first,
            "OBL-6" obl_6_released_rows_come_in_order_with_their_positions,
            "OBL-6" obl_6_a_released_row_that_is_parked_again_holds_its_key_back,
            "OBL-6" obl_6_parked_rows_are_listed_in_pages,
            "OBL-7" obl_7_a_cursor_does_not_go_back_within_an_epoch,
            "OBL-7" obl_7_a_cursor_does_not_go_back_in_a_later_epoch,
            "OBL-8" obl_8_a_log_that_tells_of_one_append_tells_of_the_next,
            "OBL-9" obl_9_a_batch_is_opened_as_it_is_read_and_saved_if_it_says_so,
            "OBL-9" obl_9_a_superseded_epoch_opens_no_batch;
    }
}
