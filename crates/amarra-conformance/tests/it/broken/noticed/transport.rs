//! Defects of publishing sessions.

use super::defects;

defects! {
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
}
