//! The agent's loop never comes back: the guard ends main in time, and then, as nobody reaps, the agent too. Only with
//! the feature `sabotage`, which the product needs to be wedged by a file.

use super::pair::Candidate;
use super::play::{LONG, Play, etcd};
use crate::support::lab::Lab;
use crate::support::servers::Etcd;

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_wedged() {
    let server = Etcd::start("etcd35");
    let start = |lab: &Lab| {
        let file = lab.path("freeze");
        let _ = std::fs::remove_file(&file);
        lab.start().env("PILOTFISH_SABOTAGE=freeze").env(format!("PILOTFISH_FREEZE_FILE={}", file.display()))
    };
    let freeze = |candidate: &mut Candidate| std::fs::write(candidate.lab.path("freeze"), "").unwrap();
    let play = Play { start, ..Play::on(etcd(&server)) };
    play.rounds("loop wedged", LONG, freeze, |candidate| {
        assert_eq!(candidate.container.wait(), Ok(70), "{}", candidate.container.stderr());
    });
}
