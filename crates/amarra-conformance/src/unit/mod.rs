//! The laws of `UnitOfWork`: locks, versions, atomicity, unknown outcomes, audit, idempotency.

mod atomic;
mod audit;
mod idempotency;
mod lock;
mod outcome;
mod save;
mod verify;

use crate::backend::StoreBackend;
use crate::law::suite;

pub use atomic::*;
pub use audit::*;
pub use idempotency::*;
pub use lock::*;
pub use outcome::*;
pub use save::*;
pub use verify::*;

suite! {
    ($)
    /// Expands to the laws of `UnitOfWork` for one `StoreBackend`.
    store_laws in unit for StoreBackend {
        UnitOfWork:
            "UOW-1" uow_1_load_answers_in_the_order_asked_for,
            "UOW-1" uow_1_a_missing_aggregate_is_absent_and_empty,
            "UOW-1" uow_1_load_sees_the_units_own_saves,
            "UOW-1" uow_1_after_a_wait_load_returns_what_was_committed_last,
            "UOW-1" uow_1_units_that_load_in_opposite_orders_do_not_deadlock,
            "UOW-1" uow_1_random_sets_never_deadlock,
            "UOW-1" uow_1_what_is_absent_is_locked_too,
            "UOW-2" uow_2_a_locked_aggregate_is_changed_by_nobody_else,
            "UOW-2" uow_2_of_two_that_find_an_id_absent_one_creates_it,
            "UOW-2" uow_2_no_update_is_lost_under_contention,
            "UOW-2" uow_2_other_aggregates_are_not_locked,
            "UOW-3" uow_3_a_save_makes_the_next_version,
            "UOW-3" uow_3_a_stale_version_conflicts_and_changes_nothing,
            "UOW-3" uow_3_a_version_from_the_future_conflicts,
            "UOW-3" uow_3_creating_what_exists_conflicts,
            "UOW-3" uow_3_of_two_that_create_one_id_one_conflicts,
            "UOW-3" uow_3_kinds_and_ids_are_told_apart,
            "UOW-4" uow_4_nothing_is_visible_before_the_commit,
            "UOW-4" uow_4_everything_is_visible_after_the_commit,
            "UOW-4" uow_4_the_time_of_a_unit_does_not_pass,
            "UOW-5" uow_5_a_dropped_unit_leaves_no_trace,
            "UOW-5" uow_5_a_dropped_unit_frees_its_locks,
            "UOW-5" uow_5_a_unit_with_a_failed_call_leaves_no_trace,
            "UOW-6" uow_6_a_lost_answer_is_unknown_and_everything_is_applied,
            "UOW-6" uow_6_a_lost_request_is_unknown_and_nothing_is_applied,
            "UOW-6" uow_6_a_connection_lost_before_the_commit_surely_applied_nothing,
            "UOW-6" uow_6_an_unknown_commit_frees_its_locks,
            "UOW-7" uow_7_a_committed_unit_survives_a_crash,
            "UOW-7" uow_7_an_open_unit_does_not_survive_a_crash,
            "UOW-7" uow_7_versions_go_on_after_a_crash,
            "UOW-8" uow_8_audit_rows_are_dense_and_chained,
            "UOW-8" uow_8_the_chain_is_in_commit_order,
            "UOW-8" uow_8_many_writers_make_one_chain,
            "UOW-8" uow_8_a_rollback_leaves_no_gap_in_the_chain,
            "UOW-8" uow_8_the_chain_is_read_in_pages,
            "UOW-8" uow_8_the_chain_goes_on_after_a_crash,
            "UOW-9" uow_9_a_recorded_response_is_replayed,
            "UOW-9" uow_9_another_request_of_the_same_key_is_a_mismatch,
            "UOW-9" uow_9_a_running_key_is_in_flight,
            "UOW-9" uow_9_a_key_rolled_back_is_fresh_again,
            "UOW-9" uow_9_of_many_at_once_one_is_fresh,
            "UOW-9" uow_9_principals_routes_and_keys_are_told_apart,
            "UOW-9" uow_9_an_unknown_commit_is_found_by_its_key,
            "UOW-9" uow_9_a_response_survives_a_crash,
            "UOW-10" uow_10_a_superseded_claim_is_fenced,
            "UOW-10" uow_10_a_verified_claim_is_superseded_by_nobody_before_the_end,
            "UOW-10" uow_10_a_claim_that_was_acted_on_is_over,
            "UOW-10" uow_10_a_claim_of_another_aggregate_proves_nothing,
            "UOW-12" uow_12_a_unit_that_begins_with_a_claim_has_loaded_and_verified,
            "UOW-11" uow_11_view_rows_come_in_the_order_asked_for,
            "UOW-11" uow_11_units_that_load_views_in_opposite_orders_do_not_deadlock;
    }
}
