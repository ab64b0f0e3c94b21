//! Each rule of the core, broken: the promise that falls then, by name. A rule whose breaking nothing notices would be
//! a rule nobody needs, or a model too kind.

use super::explore::{falls, misfortunes};
use super::promises::*;
use super::{Careless, Faults, Kind, Play, Witnessed};
use crate::supervisor::machines::election::rules::{Rule, Rules};

/// States to play from one seed.
const MOST: usize = 10_000;
/// Seeds after which a mutant counts as not caught.
const SEEDS: u64 = 200;

/// Breaks rules and plays at random, from this seed on: where a promise falls late with most, one with which it falls
/// soon is named.
#[track_caller]
fn caught(rules: &[Rule], kind: Kind, faults: Faults, promise: &'static str, seed: u64) {
    caught_in(rules, Play { agents: 2, ..Play::new(kind, faults) }, promise, seed);
}

#[track_caller]
fn caught_in(rules: &[Rule], play: Play, promise: &'static str, seed: u64) {
    let play = Play { rules: Rules::without(rules), leaders: 6, mail: 12, ..play };
    let kind = play.kind;
    for seed in seed..seed + SEEDS {
        if let Some(states) = falls(promise, play.clone(), seed, MOST) {
            println!("mutant, {kind:?}, without {rules:?}: \"{promise}\" falls after {states} states from seed {seed}");
            return;
        }
    }
    panic!("without {rules:?} \"{promise}\" still stands after {SEEDS} times {MOST} states");
}

fn all(kind: Kind) -> Faults {
    misfortunes(kind, 6)
}

#[test]
fn without_counting_from_the_sending_two_lead() {
    // Silence for a whole lease is rare by chance, and certain where the agent is stopped.
    let faults = Faults { any: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::CountFromSending], Kind::Etcd, faults, NEVER_TWO, 1);
}

#[test]
fn without_verifying_renewals_two_lead() {
    let faults = Faults { any: 2, delete: 2, ..Faults::default() };
    caught(&[Rule::CountVerifiedOnly], Kind::Consul, faults, NEVER_TWO, 121);
}

#[test]
fn without_refusing_short_leases_somebody_stands_that_couldnt_lead() {
    let promise = std::time::Duration::from_secs(3);
    let play = Play { agents: 2, promise, ..Play::new(Kind::Consul, Faults::default()) };
    caught_in(&[Rule::RefuseShortLease], play, ENOUGH, 1);
}

#[test]
fn without_allowing_for_drift_two_lead() {
    let faults = Faults { any: 2, expire: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::AllowForDrift], Kind::Consul, faults, NEVER_TWO, 28);
    let faults = Faults { any: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::AllowForDrift], Kind::Etcd, faults, NEVER_TWO, 4);
}

#[test]
fn without_taking_a_loss_for_one_a_leader_leads_on() {
    caught(&[Rule::LostIsLost], Kind::Consul, all(Kind::Consul), LOSS_ENDS, 1);
}

#[test]
fn with_silence_taken_for_a_loss_an_error_ends_a_leadership() {
    let faults = Faults { any: 3, lose: 3, ..Faults::default() };
    caught(&[Rule::UnknownIsNotLost], Kind::Etcd, faults, SILENCE, 1);
}

#[test]
fn without_reading_back_the_unknown_is_asked_for_again() {
    let faults = Faults { any: 3, lose: 3, ..Faults::default() };
    caught(&[Rule::ReadBack], Kind::Consul, faults, READ_BACK, 1);
}

#[test]
fn without_abandoning_it_a_session_is_used_while_an_acquire_is_under_way() {
    let faults = Faults { any: 3, lose: 3, ..Faults::default() };
    caught(&[Rule::AbandonUnknown], Kind::Consul, faults, ABANDONED, 1);
}

#[test]
fn without_acquiring_only_what_was_seen_two_lead() {
    let faults = Faults { any: 3, expire: 3, ..Faults::default() };
    caught(&[Rule::AcquireWhatWasSeen], Kind::Consul, faults, NEVER_TWO, 4);
}

#[test]
fn without_naming_the_term_a_late_release_makes_two_lead() {
    let faults = Faults { any: 6, unhealthy: 3, repeat: 3, lose: 2, ..Faults::default() };
    // A session that serves one term makes this rule needless, and the other way round: either is enough.
    caught(&[Rule::ReleaseOwnTerm, Rule::OneTermPerSession], Kind::Consul, faults, NEVER_TWO, 36);
}

#[test]
fn without_a_session_for_each_term_one_serves_two() {
    let faults = Faults { any: 3, unhealthy: 3, ..Faults::default() };
    caught(&[Rule::OneTermPerSession], Kind::Consul, faults, ONE_TERM, 1);
}

#[test]
fn without_holding_off_two_lead() {
    let faults = Faults { any: 2, delete: 2, ..Faults::default() };
    caught(&[Rule::HoldOff], Kind::Consul, faults, NEVER_TWO, 1);
    caught(&[Rule::HoldOff], Kind::Etcd, faults, NEVER_TWO, 1);
}

#[test]
fn without_the_first_deadline_nobody_goes_in_peace() {
    caught(&[Rule::DemoteBeforeKill], Kind::Consul, Faults::default(), TOLD_IN_TIME, 1);
}

#[test]
fn without_killing_at_the_deadline_all_is_left_to_the_guard() {
    caught(&[Rule::KillAtDeadline], Kind::Consul, Faults::default(), OWN_KILL, 1);
}

#[test]
fn without_telling_the_guard_first_somebody_acts_unguarded() {
    caught(&[Rule::GuardBeforeActing], Kind::Consul, Faults::default(), GUARDED, 1);
}

#[test]
fn without_needing_a_guard_to_renew_two_lead() {
    let faults = Faults { any: 2, guard: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::NoLeaseWithoutGuard], Kind::Etcd, faults, NEVER_TWO, 57);
}

#[test]
fn without_looking_at_the_clock_first_a_passed_deadline_is_taken_back() {
    let faults = Faults { any: 2, pause: 2, ..Faults::default() };
    caught(&[Rule::DeadlineBeforeAnswers], Kind::Consul, faults, NOT_TAKEN_BACK, 1);
}

#[test]
fn without_demoting_before_the_release_two_lead() {
    let faults = Faults { any: 2, step_down: 2, ..Faults::default() };
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        caught(&[Rule::ReleaseAfterDemotion], kind, faults, NEVER_TWO, 1);
    }
}

#[test]
fn without_renewing_until_the_release_a_peaceful_demotion_is_cut_short() {
    let faults = Faults { any: 2, step_down: 2, ..Faults::default() };
    caught(&[Rule::RenewUntilRelease], Kind::Consul, faults, RENEWED, 1);
}

#[test]
fn with_old_news_for_new_somebody_never_knows_who_leads() {
    let faults = Faults { any: 6, late: 4, step_down: 3, ..Faults::default() };
    let play = Play { heal_one_in: 5, ..Play::new(Kind::Etcd, faults) };
    caught_in(&[Rule::NewestCounts], play, EMERGES, 21);
}

#[test]
fn without_asking_until_it_is_answered_a_free_lock_stays_free() {
    let faults = Faults { any: 6, lose: 4, step_down: 3, ..Faults::default() };
    let play = Play { agents: 1, heal_one_in: 5, ..Play::new(Kind::Consul, faults) };
    caught_in(&[Rule::AskUntilAnswered], play, EMERGES, 1);
}

#[test]
fn without_giving_back_what_it_wins_one_that_is_unhealthy_becomes_leader() {
    caught(&[Rule::StandToLead], Kind::Consul, Faults { any: 3, unhealthy: 3, ..Faults::default() }, STANDS, 1);
}

#[test]
fn without_waiting_oneself_a_lock_freed_by_hand_whose_session_ends_makes_two_lead() {
    let faults = Faults { any: 3, free: 1, expire: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::WaitOneself], Kind::Consul, faults, NEVER_TWO, 1);
}

#[test]
fn without_waiting_oneself_a_server_that_forgets_to_hold_back_makes_two_lead() {
    let faults = Faults { any: 3, forget: 1, expire: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::WaitOneself], Kind::Consul, faults, NEVER_TWO, 1);
}

#[test]
fn without_waiting_oneself_a_server_that_judges_by_what_it_has_yet_to_replay_makes_two_lead() {
    let faults = Faults { any: 3, misjudge: 1, expire: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::WaitOneself], Kind::Consul, faults, NEVER_TWO, 1);
}

#[test]
fn with_a_lock_and_a_last_of_two_moments_two_lead() {
    let faults = Faults { any: 3, torn: 1, delete: 1, pause: 1, ..Faults::default() };
    caught(&[Rule::WholeViews], Kind::Consul, faults, NEVER_TWO, 173);
}

#[test]
fn without_looking_first_a_session_unknown_for_a_moment_costs_a_leadership() {
    let faults = Faults { any: 2, deny: 2, ..Faults::default() };
    caught(&[Rule::LookBeforeLosing], Kind::Consul, faults, NEEDLESS, 1);
}

#[test]
fn without_a_bound_to_debts_nobody_ever_leads_again() {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        let faults = Faults { any: 3, scribble: 1, step_down: 2, ..Faults::default() };
        let play = Play { agents: 2, heal_one_in: 5, ..Play::new(kind, faults) };
        caught_in(&[Rule::BoundDebts], play, EMERGES, 1);
    }
}

/// Mains outlive their agents for a moment, and the kernel knows until when.
fn witnessed(kind: Kind, witnessed: Witnessed, faults: Faults) -> Play {
    Play { agents: 2, witnessed, ..Play::new(kind, faults) }
}

#[test]
fn without_asking_the_kernel_for_an_end_two_lead() {
    for kind in [Kind::Consul, Kind::Etcd] {
        let faults = Faults { any: 1, crash: 1, ..Faults::default() };
        caught_in(&[Rule::KernelCertifies], witnessed(kind, Witnessed::Kept, faults), NEVER_TWO, 1);
    }
}

#[test]
fn with_a_certificate_taken_for_another_file_two_lead() {
    for (kind, seed) in [(Kind::Consul, 56), (Kind::Etcd, 13)] {
        let faults = Faults { any: 3, crash: 1, step_down: 1, lose: 1, ..Faults::default() };
        caught_in(&[Rule::CertifyNoOther], witnessed(kind, Witnessed::Kept, faults), NEVER_TWO, seed);
    }
}

#[test]
fn with_a_certificate_of_any_term_two_lead() {
    for (kind, seed) in [(Kind::Consul, 8), (Kind::Etcd, 2)] {
        let careless = Careless { certificate_of_any_term: true, ..Careless::default() };
        let faults = Faults { any: 2, crash: 1, lose: 1, repeat: 1, ..Faults::default() };
        let play = Play { careless, ..witnessed(kind, Witnessed::Kept, faults) };
        caught_in(&[], play, NEVER_TWO, seed);
    }
}

#[test]
fn with_silence_taken_for_an_end_two_lead() {
    for kind in [Kind::Consul, Kind::Etcd] {
        let careless = Careless { silence_is_an_end: true, ..Careless::default() };
        let play = Play { careless, ..witnessed(kind, Witnessed::Kept, Faults::default()) };
        caught_in(&[], play, NEVER_TWO, 1);
    }
}

#[test]
fn with_a_file_that_is_the_agents_alone_two_lead() {
    for (kind, seed) in [(Kind::Consul, 1), (Kind::Etcd, 3)] {
        let careless = Careless { file_not_inherited: true, ..Careless::default() };
        let faults = Faults { any: 1, crash: 1, ..Faults::default() };
        caught_in(&[], Play { careless, ..witnessed(kind, Witnessed::Kept, faults) }, NEVER_TWO, seed);
    }
}

#[test]
fn with_a_lock_that_ends_with_the_agent_while_its_main_acts_on_two_lead() {
    let careless = Careless { file_not_inherited: true, ..Careless::default() };
    let faults = Faults { any: 1, crash: 1, ..Faults::default() };
    caught_in(&[], Play { careless, ..witnessed(Kind::Local, Witnessed::Kept, faults) }, NEVER_TWO, 1);
}

#[test]
fn with_debts_that_end_with_a_leadership_two_lead() {
    for (kind, seed) in [(Kind::Consul, 155), (Kind::Etcd, 14)] {
        let faults = Faults { any: 3, delete: 1, step_down: 2, pause: 1, ..Faults::default() };
        caught(&[Rule::PassDebtsOn], kind, faults, NEVER_TWO, seed);
    }
}

#[test]
fn with_a_file_that_main_closed_and_nobody_says_so_two_lead() {
    for (kind, seed) in [(Kind::Consul, 1), (Kind::Etcd, 3)] {
        let careless = Careless { closing_unsaid: true, ..Careless::default() };
        let faults = Faults { any: 1, crash: 1, ..Faults::default() };
        caught_in(&[], Play { careless, ..witnessed(kind, Witnessed::Closed, faults) }, NEVER_TWO, seed);
    }
}

/// No rules of the core, but what its adapters keep, each with what is done in its place.
#[track_caller]
fn caught_careless(careless: Careless, kind: Kind, faults: Faults, promise: &'static str, seed: u64) {
    println!("{careless:?}");
    caught_in(&[], Play { agents: 2, careless, ..Play::new(kind, faults) }, promise, seed);
}

/// A late renewal, which was given up long ago, must not put the key back under its own, older lease.
#[test]
fn with_an_etcd_that_takes_late_renewals_two_lead() {
    let careless = Careless { late_renewals_count: true, ..Careless::default() };
    let faults = Faults { any: 3, lose: 3, ..Faults::default() };
    caught_careless(careless, Kind::Etcd, faults, NEVER_TWO, 35);
}

#[test]
fn with_leases_ended_that_were_granted_later_two_lead() {
    let careless = Careless { ends_later_leases: true, ..Careless::default() };
    let faults = Faults { any: 4, lose: 1, depose: 3, ..Faults::default() };
    caught_careless(careless, Kind::Etcd, faults, NEVER_TWO, 1);
}

#[test]
fn with_keep_alives_trusted_whoever_answers_them_two_lead() {
    let careless = Careless { trusts_keep_alives: true, ..Careless::default() };
    let faults = Faults { any: 1, depose: 1, ..Faults::default() };
    caught_careless(careless, Kind::Etcd, faults, NEVER_TWO, 1);
}

#[test]
fn with_clocks_that_stand_still_while_the_host_sleeps_two_lead() {
    let careless = Careless { clocks_sleep: true, ..Careless::default() };
    let faults = Faults { any: 1, sleep: 1, ..Faults::default() };
    caught_careless(careless, Kind::Etcd, faults, NEVER_TWO, 1);
}

#[test]
fn with_a_stopped_guard_that_nobody_looks_after_two_lead() {
    let careless = Careless { guard_unwatched: true, ..Careless::default() };
    let faults = Faults { any: 2, stop_guard: 1, pause: 1, ..Faults::default() };
    caught_careless(careless, Kind::Etcd, faults, NEVER_TWO, 1);
}

#[test]
fn without_refusing_terms_that_went_back_terms_dont_grow() {
    let faults = Faults { any: 3, wipe: 1, step_down: 2, ..Faults::default() };
    caught(&[Rule::TermsGrow], Kind::Etcd, faults, TERMS_GROW, 1);
}

/// Three candidates, of which two acknowledge each write.
fn counted(kind: Kind, faults: Faults) -> Play {
    Play { agents: 3, quorum: Some(2), writes: 4, ..Play::new(kind, faults) }
}

#[test]
fn without_knowing_enough_ranks_who_leads_lacks_a_write() {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        let faults = Faults { any: 2, crash: 2, ..Faults::default() };
        caught_in(&[Rule::KnowEnough], counted(kind, faults), HAS_ALL, 1);
    }
}

#[test]
fn with_ranks_measured_before_the_hold_off_who_leads_lacks_a_write() {
    for (kind, seed) in [(Kind::Consul, 31), (Kind::Etcd, 25)] {
        let faults = Faults { any: 2, delete: 1, pause: 1, ..Faults::default() };
        caught_in(&[Rule::RankAfterHoldOff], counted(kind, faults), HAS_ALL, seed);
    }
}

#[test]
fn with_ranks_of_an_earlier_vacancy_who_leads_lacks_a_write() {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        let faults = Faults { any: 3, crash: 2, step_down: 2, ..Faults::default() };
        caught_in(&[Rule::RanksOfThisTerm], counted(kind, faults), HAS_ALL, 1);
    }
}
