//! Defects of the outbox's writing side.

use super::defects;

defects! {
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
}
