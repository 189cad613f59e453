//! Defects of durable timers and of claims on them.

use super::defects;

defects! {
    claims_are_compared: VerifyTrustsTheClaim breaks
        unit [
            uow_10_a_superseded_claim_is_fenced,
            uow_10_a_claim_that_was_acted_on_is_over,
            uow_10_a_claim_of_another_aggregate_proves_nothing,
        ]
        timer [
            tim_2_after_its_lease_a_claim_is_superseded_at_a_higher_epoch,
            tim_2_a_claim_of_the_same_owner_supersedes_its_earlier_one,
            tim_2_scheduling_ends_a_claim,
        ];
    verified_claims_are_locked: VerifyChecksOutsideTheTransaction breaks unit [
        uow_10_a_verified_claim_is_superseded_by_nobody_before_the_end,
    ];
    claims_last: ClaimsHaveNoLease breaks timer [
        tim_1_a_due_timer_is_claimed_by_one_owner,
        tim_1_of_many_that_ask_at_once_one_gets_it,
    ];
    claims_are_of_their_kind: ClaimsForgetTheKind breaks timer [
        tim_1_only_the_kind_asked_for_is_claimed,
    ];
    scheduling_ends_claims: ScheduleKeepsTheClaim breaks
        timer [tim_2_scheduling_ends_a_claim]
        unit [uow_10_a_claim_that_was_acted_on_is_over];
    due_is_due: TimersAreAlwaysDue breaks timer [
        tim_4_the_next_due_time_is_that_of_the_first_timer,
        tim_4_a_claimed_timer_is_next_due_when_its_lease_ends,
    ];
}
