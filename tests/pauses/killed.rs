//! The agent is killed on `local`, where the kernel frees the lock when the last of main's is gone. The next one waits
//! the kill margin all the same: it can't know whether main had kept the lock it was given.

use std::time::Duration;

use super::figures::Figures;
use super::pair::{Config, Pair, Story, TELL, actor};
use crate::lab::Lab;
use crate::nemesis::register::Register;

const KILL_MARGIN: Duration = Duration::from_millis(200);

fn killed(rounds: usize) {
    let shared = tempfile::tempdir().unwrap();
    let catalog = format!("backend = \"local\"\ndirectory = \"{}\"", shared.path().display());
    let mut register = Register::new();
    let main = actor(register.path());
    let election = format!("kill_margin = \"{}ms\"", KILL_MARGIN.as_millis());
    let config = Config { catalog: &catalog, election: &election, main: &main, tell: TELL, user: None };
    let mut pair = Pair::new(&config, Story::of(move || register.news()), Lab::start);
    let (mut acted_on, mut lasted) = (Figures::default(), Figures::default());
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis((round * 7 % 50) as u64));
        let succession = pair.succession(|candidate| candidate.container.signal(libc::SIGKILL));
        acted_on.add(succession.acted_on);
        lasted.add(succession.lasted);
        assert!(u128::from(succession.vacant) >= KILL_MARGIN.as_nanos(), "{} ns", succession.vacant);
        pair.candidates[succession.loser].comes_back();
    }
    println!("agent killed, local, {KILL_MARGIN:?} kill margin\n  acted on for  {acted_on}\n  the next led  {lasted}");
    pair.never_two(rounds + 1);
}

#[test]
fn on_local_the_next_one_acts_a_kill_margin_after_a_killed_leaders_main() {
    killed(20);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_killed_on_local() {
    killed(300);
}
