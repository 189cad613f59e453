//! Defects of handlers and commands.

use super::defects;

defects! {
    handlers_use_their_session: HandlerWorksBesideItsSession breaks handler [
        hnd_1_handling_again_after_a_rollback_does_the_same,
    ];
    handlers_let_unknown_types_through: HandlerRefusesUnknownTypes breaks handler [
        hnd_2_an_unknown_type_is_let_through_and_changes_nothing,
    ];
    handlers_keep_the_cause: HandlerForgetsTheCause breaks handler [
        hnd_1_what_a_message_changes_is_stamped_with_its_cause,
    ];
    commands_use_their_session: CommandWorksBesideItsSession breaks command [
        cmd_1_a_command_rolled_back_leaves_no_trace,
        cmd_1_a_command_run_again_does_the_same_once,
    ];
}
