//! The agent is killed on `local`, where the kernel frees the lock when the last of main's is gone.

use std::time::Duration;

use super::figures::Figures;
use super::pair::{Config, Pair, Story, TELL, actor};
use crate::faults::nemesis::register::Register;
use crate::support::lab::Lab;

fn killed(rounds: usize) {
    let shared = tempfile::tempdir().unwrap();
    let catalog = format!("backend = \"local\"\ndirectory = \"{}\"", shared.path().display());
    let mut register = Register::new();
    let main = actor(register.path());
    let config = Config { catalog: &catalog, election: "", main: &main, tell: TELL, user: None };
    let mut pair = Pair::new(&config, Story::of(move || register.news()), Lab::start);
    let [mut acted_on, mut lasted, mut vacant] = [0; 3].map(|_| Figures::default());
    // The first had the lock before it had a main, and says so in `last` until it has renewed.
    std::thread::sleep(Duration::from_secs(3));
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis((round * 7 % 50) as u64));
        let succession = pair.succession(|candidate| candidate.container.signal(libc::SIGKILL));
        acted_on.add(succession.acted_on);
        lasted.add(succession.lasted);
        vacant.add(succession.vacant);
        pair.candidates[succession.loser].comes_back();
    }
    println!("agent killed, local\n  acted on for  {acted_on}\n  then nobody   {vacant}\n  the next led  {lasted}");
    pair.never_two(rounds + 1);
}

#[test]
fn on_local_the_next_one_acts_when_a_killed_leaders_main_is_gone() {
    killed(20);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_killed_on_local() {
    killed(300);
}
