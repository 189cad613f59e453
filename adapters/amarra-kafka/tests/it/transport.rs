//! Every law of `Transport` and `Session` in transactional mode, and all that hold without the
//! broker's fence in idempotent mode.

mod transactional {
    use crate::backend::{Publishing, Transactional};

    amarra_conformance::transport_laws!(Publishing<Transactional>);
}

mod idempotent {
    use crate::backend::{Idempotent, Publishing};

    /// The broker does not fence an idempotent producer: an open session of an older epoch finds
    /// out by the fence topic, soon rather than at once, and TRN-7 is about transactions.
    const EXCLUDED: [&str; 4] = [
        "trn_1_a_newer_session_fences_the_older_one",
        "trn_1_an_epoch_survives_a_crash",
        "trn_5_a_fenced_session_stores_nothing",
        "trn_5_a_zombie_among_its_successors_calls_stores_nothing",
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
        trn_3_one_call_stores_each_key_in_order,
        trn_3_calls_store_each_key_in_call_order,
        trn_3_a_retry_inside_the_session_stores_nothing_twice,
        trn_4_a_refused_record_is_named_and_those_before_it_are_stored,
        trn_4_after_a_lost_request_publishing_again_completes_in_order,
        trn_4_after_a_lost_answer_publishing_again_reorders_nothing,
        trn_6_keys_go_where_kafka_puts_them,
        trn_6_equal_keys_of_two_sessions_meet_in_one_partition,
    );

    #[test]
    fn no_law_is_left_out_without_a_reason() {
        let all = amarra_conformance::transport::LAWS.iter().map(|law| law.name);
        let known = |name: &&str| INCLUDED.contains(name) || EXCLUDED.contains(name);
        assert_eq!(all.filter(|name| !known(name)).collect::<Vec<_>>(), [""; 0]);
    }
}
