//! Every state within a budget, breadth first; and beyond it long runs at random, from seeds that are printed.
//!
//! What `cargo test` plays is small; `make model` plays the same at length.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stateright::{Checker, Chooser, HasDiscoveries, Model, Property};

use super::promises::{self, Broken};
use super::world::{Step, World};
use super::{Faults, Kind, Play, Witnessed};

impl Model for Play {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![if self.begun { World::begun(self) } else { World::new(self) }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(self, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(self, step);
        if next.leaders != world.leaders {
            self.tally.led(next.leaders);
        }
        Some(next)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.leaders <= self.leaders && world.mail.len() <= self.mail
    }

    fn properties(&self) -> Vec<Property<Play>> {
        fn kept<const BIT: u16>(_: &Play, world: &World) -> bool {
            !world.broken.has(Broken::bit(BIT))
        }
        macro_rules! each {
            ($($bit:literal)*) => { [$(kept::<$bit> as fn(&Play, &World) -> bool),*] };
        }
        let kept = each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        let of_orders = promises::OF_ORDERS.into_iter().zip(kept).map(|((name, _), kept)| Property::always(name, kept));
        let own = [
            Property::always(promises::NEVER_TWO, |_: &Play, world: &World| promises::at_most_one_acts(world)),
            Property::always(promises::EMERGES, |play: &Play, world: &World| {
                let mut hasher = DefaultHasher::new();
                world.hash(&mut hasher);
                if !hasher.finish().is_multiple_of(play.heal_one_in) {
                    return true;
                }
                play.tally.healed.fetch_add(1, Ordering::Relaxed);
                world.heals(play, 150)
            }),
        ];
        of_orders.chain(own).collect()
    }
}

/// How far runs came.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often a leader was the first, second, third... of its run.
    led: [AtomicUsize; 8],
    healed: AtomicUsize,
}

impl Tally {
    fn led(&self, leaders: u8) {
        self.led[usize::from(leaders).min(self.led.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    fn text(&self) -> String {
        let led: Vec<usize> = self.led[1..].iter().map(|led| led.load(Ordering::Relaxed)).collect();
        let failovers: usize = led[3..].iter().sum();
        let healed = self.healed.load(Ordering::Relaxed);
        format!(
            "leaderships by their place in a run {led:?} ({failovers} after three failovers or more), {healed} states healed"
        )
    }
}

/// Mostly what would happen anyway, and now and then a misfortune: uniform choice spends all misfortunes before there
/// is a leader to meet them.
#[derive(Clone)]
struct Plausible;

impl Chooser<Play> for Plausible {
    type State = u64;

    fn new_state(&self, seed: u64) -> u64 {
        seed
    }

    fn choose_initial_state(&self, _: &mut u64, _: &[World]) -> usize {
        0
    }

    fn choose_action(&self, state: &mut u64, world: &World, steps: &[Step]) -> usize {
        let weight = |step: &Step| match step {
            Step::Deliver(index) if world.is_late(*index) => 1,
            Step::Deliver(_) | Step::Watch(_) | Step::Gone(..) => 24,
            Step::Wait | Step::Expire(_) | Step::Well(_) => 8,
            Step::Write(..) => 2,
            Step::Out(_) | Step::AnswerDeposed(_) | Step::Remove(_) => 4,
            Step::Resume(_) => 2,
            Step::WriteAlone(_)
            | Step::Lose(_)
            | Step::Repeat(_)
            | Step::WatchLate(_)
            | Step::Delete
            | Step::Free
            | Step::Forget
            | Step::Misjudge(_)
            | Step::Deny(_)
            | Step::Tear(_)
            | Step::WatchTorn(_)
            | Step::Depose
            | Step::Scribble
            | Step::Sleep(_)
            | Step::Wake(_)
            | Step::GuardStops(_)
            | Step::Wipe
            | Step::Crash(_)
            | Step::Pause(_)
            | Step::GuardDies(_)
            | Step::GuardStands(_)
            | Step::Resign(_)
            | Step::Unhealthy(_) => 1,
        };
        // SplitMix64, as in the core's jitter: the same numbers on every machine and version.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut drawn = (z ^ (z >> 31)) % steps.iter().map(weight).sum::<u64>();
        for (index, step) in steps.iter().enumerate() {
            match drawn.checked_sub(weight(step)) {
                Some(left) => drawn = left,
                None => return index,
            }
        }
        0
    }
}

/// Every state until so many were seen.
fn search(name: &str, play: Play, most: usize) {
    let checker = play.checker().target_state_count(most).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    keeps_its_promises(name, &checker);
    let bound = if checker.state_count() < most { "all there are" } else { "the first of many" };
    println!(
        "model, {name}: {} states, {} different ({bound}), {} steps deep; {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.model().tally.text()
    );
}

/// Long runs at random until so many states were seen.
fn wander(name: &str, play: Play, seed: u64, most: usize) {
    let checker = play
        .checker()
        .target_state_count(most)
        .target_max_depth(600)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_simulation(seed, Plausible)
        .join();
    keeps_its_promises(&format!("{name}, seed {seed}"), &checker);
    println!(
        "model, {name}: {} states at random from seed {seed}, runs of up to {} steps; {}",
        checker.state_count(),
        checker.max_depth(),
        checker.model().tally.text()
    );
}

/// Whether this promise falls in long runs at random, of at most so many states; how many it took.
pub fn falls(promise: &'static str, play: Play, seed: u64, most: usize) -> Option<usize> {
    let checker = play
        .checker()
        .target_state_count(most)
        .target_max_depth(600)
        .finish_when(HasDiscoveries::AllOf(BTreeSet::from([promise])))
        .spawn_simulation(seed, Plausible)
        .join();
    checker.discovery(promise).map(|_| checker.state_count())
}

#[track_caller]
fn keeps_its_promises(name: &str, checker: &impl Checker<Play>) {
    if let Some((promise, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: \"{promise}\" is broken:\n{}", tale(path.into_actions(), checker.model()));
    }
}

/// The steps that led to a broken promise.
fn tale(steps: Vec<Step>, play: &Play) -> String {
    use std::fmt::Write;
    let mut world = play.init_states().remove(0);
    let mut tale = String::new();
    for step in steps {
        let what = match &step {
            Step::Deliver(index) | Step::Lose(index) | Step::Repeat(index) | Step::Misjudge(index) => {
                format!("{:?}", world.mail[*index])
            }
            _ => String::new(),
        };
        let _ = write!(tale, "  {step:?} {what}");
        world.take(play, step);
        let acting: Vec<String> = world.agents.iter().map(|agent| format!("{:?}", agent.acting)).collect();
        let _ = writeln!(tale, " -> {}", acting.join(" | "));
        if world.broken != Broken::default() || !promises::at_most_one_acts(&world) {
            break;
        }
    }
    for agent in &world.agents {
        let _ = writeln!(tale, "{:?}", agent.core);
    }
    let _ = writeln!(tale, "{:?}", world.store);
    tale
}

/// What each store may meet.
pub fn misfortunes(kind: Kind, any: u8) -> Faults {
    let clocked = u8::from(kind != Kind::Local);
    let (consul, etcd) = (u8::from(kind == Kind::Consul), u8::from(kind == Kind::Etcd));
    Faults {
        any,
        crash: 3,
        pause: 2 * clocked,
        expire: 3 * clocked,
        delete: 2 * clocked,
        free: 2 * consul,
        forget: 2 * consul,
        misjudge: consul,
        deny: 2 * consul,
        torn: 2 * consul,
        depose: 2 * etcd,
        scribble: 1,
        sleep: 2 * clocked,
        stop_guard: clocked,
        lose: 4,
        repeat: 3,
        late: 3,
        guard: clocked,
        step_down: 2,
        unhealthy: 2,
        wipe: 0,
    }
}

/// Every order of events around one misfortune, then around two: from nothing, and from a leader on.
fn small(most: usize) {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        for (any, agents) in [(1, 3), (2, 2)] {
            for begun in [false, true] {
                let play = Play { agents, begun, ..Play::new(kind, misfortunes(kind, any)) };
                let from = if begun { "from a leader on" } else { "from nothing" };
                let name = format!("{kind:?}, {agents} candidates, {any} faults, {from}");
                let healed = Play { leaders: 3, heal_one_in: 500, tally: Arc::default(), ..play.clone() };
                search(&name, healed, most);
                // Reading and opening sessions take no time: deeper for the same money.
                search(&format!("{name}, brisk"), Play { leaders: 4, brisk: true, ..play }, most);
            }
        }
    }
}

/// What a main that outlives its agent does with the file: on `local` the guard keeps what main closes.
fn ways_to_outlive(kind: Kind) -> Vec<Witnessed> {
    let ways = [Witnessed::Kept, Witnessed::Closed];
    ways.into_iter().filter(|way| kind != Kind::Local || *way == Witnessed::Kept).collect()
}

/// The same, where the kernel tells of ends.
fn small_with_a_witness(most: usize) {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        for witnessed in ways_to_outlive(kind) {
            let play = Play { agents: 2, witnessed, begun: true, ..Play::new(kind, misfortunes(kind, 2)) };
            let name = format!("{kind:?}, 2 candidates, {witnessed:?} witness, 2 faults, from a leader on");
            let healed = Play { leaders: 3, heal_one_in: 500, tally: Arc::default(), ..play.clone() };
            search(&name, healed, most);
            search(&format!("{name}, brisk"), Play { leaders: 4, brisk: true, ..play }, most);
        }
    }
}

/// Three candidates, many misfortunes, at least three failovers.
fn large(seeds: std::ops::Range<u64>, most: usize, heal_one_in: u64) {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        for seed in seeds.clone() {
            let play = Play { leaders: 6, mail: 12, heal_one_in, ..Play::new(kind, misfortunes(kind, 12)) };
            wander(&format!("{kind:?}, 3 candidates, 12 faults"), play.clone(), seed, most);
            let ranked = Play { ranked: true, tally: Arc::default(), ..play.clone() };
            wander(&format!("{kind:?}, 3 candidates with ranks, 12 faults"), ranked, seed, most / 2);
            let counted = Play { quorum: Some(2), writes: 6, tally: Arc::default(), ..play.clone() };
            wander(&format!("{kind:?}, 3 candidates with a quorum of ranks, 12 faults"), counted, seed, most);
            for witnessed in ways_to_outlive(kind) {
                let play = Play { witnessed, tally: Arc::default(), ..play.clone() };
                wander(&format!("{kind:?}, 3 candidates, {witnessed:?} witness, 12 faults"), play, seed, most / 2);
            }
        }
    }
}

/// Two of three acknowledge each write, so a winner knows two ranks: every order of events around a misfortune or two.
fn small_with_a_quorum(most: usize) {
    for kind in [Kind::Consul, Kind::Etcd, Kind::Local] {
        for any in [1, 2] {
            let play = Play {
                quorum: Some(2),
                writes: 2,
                begun: true,
                brisk: true,
                mail: 6,
                leaders: 3,
                heal_one_in: 500,
                ..Play::new(kind, misfortunes(kind, any))
            };
            search(
                &format!("{kind:?}, 3 candidates with a quorum of ranks, {any} faults, from a leader on"),
                play,
                most,
            );
        }
    }
}

#[test]
fn three_candidates_keep_every_promise_in_every_order_of_events() {
    small(6_000);
    small_with_a_quorum(6_000);
    small_with_a_witness(6_000);
}

#[test]
fn three_candidates_keep_every_promise_in_long_runs_of_misfortune() {
    large(1..2, 40_000, 40);
}

#[test]
#[ignore = "takes minutes, and wants an optimised build: make model"]
fn at_length_three_candidates_keep_every_promise_in_every_order_of_events() {
    small(250_000);
    small_with_a_quorum(250_000);
    small_with_a_witness(250_000);
}

#[test]
#[ignore = "takes minutes, and wants an optimised build: make model"]
fn at_length_three_candidates_keep_every_promise_in_long_runs_of_misfortune() {
    large(1..4, 1_500_000, 400);
}

#[test]
fn a_store_that_comes_back_empty_makes_no_lower_term_lead() {
    for kind in [Kind::Consul, Kind::Etcd] {
        let faults = Faults { any: 4, wipe: 1, step_down: 2, crash: 1, ..Faults::default() };
        let play = Play { leaders: 6, mail: 12, ..Play::new(kind, faults) };
        wander(&format!("{kind:?}, the store is wiped"), play, 1, 20_000);
    }
}
