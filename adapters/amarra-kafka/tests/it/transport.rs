//! Every law of `Transport` and `Session` in transactional mode, and all that hold without the
//! broker's fence in idempotent mode.

mod transactional {
    use crate::backend::{Publishing, Transactional};

    amarra_conformance::transport_laws!(Publishing<Transactional>);
}

mod idempotent {
    use crate::backend::{Idempotent, Publishing};

    /// The broker does not fence an idempotent producer: an open session of an older epoch finds
    /// out by the fence topic, soon rather than at once.
    const EXCLUDED: [&str; 8] = [
        "trn_1_a_newer_session_fences_the_older_one",
        "trn_1_an_epoch_survives_a_crash",
        "trn_1_of_many_that_open_at_once_the_newest_remains",
        "trn_1_epochs_may_skip_numbers",
        "trn_1_a_dropped_session_leaves_its_fence",
        "trn_5_a_fenced_session_stores_nothing",
        "trn_5_a_zombie_among_its_successors_calls_stores_nothing",
        "trn_5_nothing_of_a_zombie_follows_its_successors_records",
    ];

    macro_rules! laws {
        ($($name:ident),+ $(,)?) => {
            const INCLUDED: &[&str] = &[$(stringify!($name)),+];

            $(#[test]
            fn $name() {
                let name = stringify!($name);
                assert!(amarra_conformance::transport::check::<Publishing<Idempotent>>(name));
            })+
        };
    }

    laws!(
        trn_1_an_older_epoch_does_not_open_any_more,
        trn_1_shards_do_not_fence_each_other,
        trn_1_outboxes_do_not_fence_each_other,
        trn_1_the_holder_of_an_epoch_may_open_again,
        trn_2_an_acknowledged_record_is_readable_as_it_was_given,
        trn_2_an_acknowledged_record_survives_a_crash,
        trn_2_publishing_nothing_is_well,
        trn_2_an_empty_value_is_stored,
        trn_2_a_long_call_is_stored_to_its_end,
        trn_2_a_call_of_records_at_the_bound_is_stored,
        trn_2_a_call_to_several_topics_stores_in_each,
        trn_2_sessions_side_by_side_store_everything,
        trn_2_publishing_goes_on_after_a_crash,
        trn_3_one_call_stores_each_key_in_order,
        trn_3_calls_store_each_key_in_call_order,
        trn_3_a_retry_inside_the_session_stores_nothing_twice,
        trn_3_keys_of_several_topics_are_ordered_in_each,
        trn_3_order_holds_over_takeovers_there_and_back,
        trn_4_a_refused_record_is_named_and_those_before_it_are_stored,
        trn_4_after_a_lost_request_publishing_again_completes_in_order,
        trn_4_after_a_lost_answer_publishing_again_reorders_nothing,
        trn_4_a_refused_first_record_stands_for_itself,
        trn_4_one_loss_after_another_loses_and_reorders_nothing,
        trn_6_keys_go_where_kafka_puts_them,
        trn_6_equal_keys_of_two_sessions_meet_in_one_partition,
        trn_6_equal_keys_of_two_topics_have_equal_partitions,
        trn_6_a_key_keeps_its_partition_over_a_crash,
        trn_7_a_call_whose_request_was_lost_is_readable_whole_or_not,
        trn_7_a_call_whose_answer_was_lost_is_readable_whole_or_not,
        trn_7_a_call_that_was_dropped_is_readable_whole_or_not,
    );

    #[test]
    fn no_law_is_left_out_without_a_reason() {
        let all = amarra_conformance::transport::LAWS.iter().map(|law| law.name);
        let known = |name: &&str| INCLUDED.contains(name) || EXCLUDED.contains(name);
        assert_eq!(all.filter(|name| !known(name)).collect::<Vec<_>>(), [""; 0]);
    }
}
