//! Defects of clocks, sources of randomness and codecs.

use super::ambient_defects;

ambient_defects! {
    monotonic_time_is_not_wall_time: 1 breaks clock [
        clk_2_a_jump_of_the_wall_clock_moves_no_monotonic_time,
    ];
    waits_do_not_end_early: 2 breaks clock [
        tmr_1_a_wait_never_ends_early,
        tmr_1_many_waits_each_end_at_their_own_point,
    ];
    seeds_are_used: 3 breaks entropy [ent_1_another_seed_gives_other_bytes];
    seeded_streams_repeat: 4 breaks entropy [ent_1_the_same_seed_and_calls_give_the_same_bytes];
    draws_are_random: 5 breaks entropy [
        ent_2_draws_do_not_repeat,
        ent_2_bits_are_balanced,
        ent_2_every_byte_is_filled,
    ];
    processes_differ: 6 breaks entropy [ent_2_two_processes_draw_different_bytes];
    upcasts_are_registered: 7 breaks codec [cdc_2_every_older_version_decodes_to_what_it_meant];
    upcasts_keep_the_meaning: 8 breaks codec [cdc_2_every_older_version_decodes_to_what_it_meant];
}
