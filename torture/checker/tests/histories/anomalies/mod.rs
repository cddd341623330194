//! Anomalies: each is put into a correct history, and must break the assertion that names it;
//! what it breaks beside is listed with it.

mod deliveries;
mod ends;
mod made;
mod people;
mod processes;
mod stores;
mod wires;

use hubbub_checker::{
    Assertion::{self, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15},
    check,
};
use made::Made;

use crate::{script, shown};

/// How many histories an anomaly is put into.
const HISTORIES: u64 = 20;

/// Injects an anomaly into many histories; a history may have no place for it, most have one.
fn caught(inject: fn(&mut Made) -> Option<()>, breaks: Assertion, also: &[Assertion]) {
    let mut injected = 0;
    for seed in 0..HISTORIES {
        let mut made = Made::new(script::correct(seed), seed);
        if inject(&mut made).is_none() {
            continue;
        }
        injected += 1;
        let verdict = check(made.entries);
        assert!(
            verdict.broken.contains_key(&breaks),
            "seed {seed}: not caught, but {}",
            shown(&verdict)
        );
        for assertion in verdict.broken.keys() {
            assert!(
                *assertion == breaks || also.contains(assertion),
                "seed {seed}: {assertion} is broken too: {}",
                shown(&verdict)
            );
        }
    }
    assert!(injected >= HISTORIES / 4, "only {injected} places for it");
}

macro_rules! anomalies {
    ($($file:ident :: $name:ident breaks $breaks:ident $(, also $($also:ident)+)? ;)+) => {
        $(
            #[test]
            fn $name() {
                caught($file::$name, $breaks, &[$($($also),+)?]);
            }
        )+
    };
}

anomalies! {
    stores::lost_write breaks A1, also A2 A3 A4 A11 A12;
    stores::phantom_row breaks A2, also A4 A6 A7 A8 A11;
    wires::phantom_receipt breaks A2, also A5;
    stores::aborted_read breaks A2;
    wires::corrupt_on_the_wire breaks A2;
    stores::corrupt_in_the_store breaks A2;
    stores::id_with_two_rows breaks A3, also A4 A5 A6 A7 A8 A11;
    stores::seq_with_two_rows breaks A3, also A2 A4 A5 A6 A7 A8 A11 A12;
    wires::given_twice breaks A3;
    wires::wired_twice breaks A3, also A6;
    wires::replayed_from_too_low breaks A3, also A2;
    wires::shadow_after_its_row breaks A3, also A6;
    stores::page_gap breaks A4;
    stores::page_double breaks A3, also A4;
    stores::page_swap breaks A4;
    stores::page_too_short breaks A4;
    stores::seq_is_not_the_place breaks A4, also A5;
    stores::ack_with_another_seq breaks A5;
    wires::wire_with_another_seq breaks A5, also A3 A6 A8;
    deliveries::skipped breaks A6, also A7 A12;
    deliveries::ordered_swap breaks A6;
    deliveries::shadow_on_an_ordered_join breaks A6, also A3;
    deliveries::early_reply breaks A6;
    deliveries::not_moved breaks A6;
    ends::unseen_at_the_end breaks A7, also A6 A12;
    ends::seen_late breaks A7, also A6 A12;
    ends::not_synced_at_the_end breaks A7, also A6;
    ends::not_joined_again breaks A7;
    ends::needed_the_sweep breaks A7;
    processes::join_without_an_answer breaks A7;
    deliveries::synced_without_a_row breaks A8, also A6;
    deliveries::synced_too_far breaks A8, also A6 A7;
    deliveries::lying_recovery breaks A8, also A3;
    stores::appended_backwards breaks A9, also A10;
    ends::new_enemy breaks A10, also A3 A5 A6;
    ends::frame_after_a_removal breaks A10;
    stores::one_copy_too_many breaks A11;
    stores::one_row_too_few breaks A11;
    stores::record_without_a_trace breaks A11;
    stores::acked_and_given_up breaks A11, also A4 A5;
    processes::status_goes_back breaks A12;
    processes::delivered_to_nobody breaks A12;
    people::edit_not_shown breaks A4;
    people::earlier_edit_stands breaks A4;
    people::version_missing breaks A4;
    people::deleted_text_shown breaks A4;
    people::deleted_version_shown breaks A4;
    people::deleted_text_in_the_store breaks A4;
    people::void_text_in_the_store breaks A4;
    people::deletion_not_shown breaks A4;
    people::reaction_lost breaks A4;
    people::reaction_doubled breaks A4;
    people::reply_not_counted breaks A4;
    people::changed_by_another breaks A4, also A2 A9;
    people::text_before_its_edit breaks A2;
    people::deleted_before_its_deletion breaks A2;
    people::another_target_on_the_wire breaks A2;
    people::lost_edit breaks A1, also A2 A3 A4 A6 A11 A12;
    people::page_of_every_kind_hides_one breaks A4;
    // What a later deletion has emptied comes before that deletion, too.
    people::change_before_its_message breaks A6, also A2;
    people::two_direct_channels breaks A5;
    people::one_channel_for_two_pairs breaks A5;
    people::stranger_in_a_direct_channel breaks A10;
    people::receipt_beyond_the_marks breaks A12;
    people::receipt_before_its_mark breaks A12;
    people::read_goes_back breaks A12;
    people::told_goes_back breaks A12;
    people::told_too_much breaks A12;
    people::end_beyond_the_marks breaks A12;
    people::mark_lost breaks A12;
    people::mark_lost_on_one_server breaks A12;
    processes::leaked_descriptors breaks A13;
    processes::connections_beyond_their_bound breaks A13;
    processes::leaked_memory breaks A13;
    processes::stuck_queue breaks A13;
    processes::panicked breaks A14;
    processes::unexplained_error breaks A14;
    processes::error_long_after_its_fault breaks A14;
    processes::stale_count breaks A15;
    processes::channel_not_shown breaks A15;
    processes::channel_that_nobody_is_in breaks A15;
    processes::pod_not_shown breaks A15;
    processes::watch_that_does_not_end breaks A15;
}
