//! Defects of parking lots.

use super::defects;

defects! {
    parked_keys_are_known: ParkingIsNotAsked breaks
        parking [
            prk_2_a_key_is_parked_until_its_last_message_left,
            prk_2_a_parked_key_survives_a_crash,
            prk_3_a_unit_sees_its_own_parking,
        ]
        processor [prc_3_followers_of_a_parked_key_are_parked_behind_it];
    parking_keeps_what_it_was_given: ParkingForgetsTheReason breaks parking [
        prk_1_a_delivery_comes_back_untouched_with_its_reason,
    ];
    parking_is_a_queue: ParkingTakesTheNewest breaks
        parking [
            prk_1_a_key_leaves_in_the_order_it_was_parked,
            prk_1_keys_do_not_wait_for_each_other,
        ]
        processor [prc_3_followers_of_a_parked_key_are_parked_behind_it];
}
