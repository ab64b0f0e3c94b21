//! A leader suffers the same again and again: how long it acted on, how long nobody did, and that never two did.

use std::time::Duration;

use super::figures::Figures;
use super::pair::{Candidate, Config, Pair, SHORTEST, Story, TELL, actor};
use crate::faults::nemesis::register::Register;
use crate::support::lab::Lab;
use crate::support::namespace::Start;
use crate::support::servers::{Consul, Etcd};

/// How often each thing happens in the long forms.
pub const LONG: usize = 20;

/// Renewals come each second: what happens to a leader shall meet them at every moment.
pub fn at_any_moment(round: usize) {
    std::thread::sleep(Duration::from_millis((1000 + round * 370 % 1000) as u64));
}

/// A main and what tells it its role, given a register.
pub type Main = fn(&Register) -> (String, &'static str);

fn plain(register: &Register) -> (String, &'static str) {
    (actor(register.path()), TELL)
}

/// It acts in a session of its own, and so does an orphan of its.
pub fn with_daemons(register: &Register) -> (String, &'static str) {
    let run = |socket: &str| format!("ACTOR run DIR/{socket} {} ID", register.path().display());
    let main = format!("(setsid {} &) ; exec setsid --wait {}", run("orphan"), run("actor"));
    (main, "ACTOR tell DIR/actor && exec ACTOR tell DIR/orphan")
}

/// How two candidates play a leader's misfortunes.
pub struct Play<'a> {
    pub catalog: String,
    pub main: Main,
    /// Whose main is.
    pub user: Option<&'a str>,
    pub start: fn(&Lab) -> Start,
}

impl Play<'_> {
    /// As they usually are.
    pub fn on(catalog: String) -> Self {
        Play { catalog, main: plain, user: None, start: Lab::start }
    }

    /// Both, one of which leads.
    pub fn pair(&self) -> Pair {
        let mut register = Register::new();
        let (main, tell) = (self.main)(&register);
        let open = |path: &std::path::Path, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("its mode can be set");
        };
        // To mains of any user.
        open(register.path(), 0o666);
        open(register.path().parent().expect("it is in a directory"), 0o777);
        let config = Config { catalog: &self.catalog, election: SHORTEST, main: &main, tell, user: self.user };
        Pair::new(&config, Story::of(move || register.news()), self.start)
    }

    /// The leader suffers this so many times, each time until there is another leadership; what that took.
    #[track_caller]
    pub fn rounds(
        &self,
        what: &str,
        rounds: usize,
        mut suffer: impl FnMut(&mut Candidate),
        after: impl Fn(&mut Candidate),
    ) {
        let mut pair = self.pair();
        let (mut acted_on, mut vacant) = (Figures::default(), Figures::default());
        for round in 0..rounds {
            at_any_moment(round);
            let succession = pair.succession(&mut suffer);
            acted_on.add(succession.acted_on);
            vacant.add(succession.vacant);
            after(&mut pair.candidates[succession.loser]);
            pair.recovers(&succession);
        }
        println!("{what}\n  acted on for  {acted_on}\n  then nobody   {vacant}");
        pair.never_two(rounds + 1);
    }
}

/// Catalogs, as the config names them.
pub fn etcd(etcd: &Etcd) -> String {
    format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", etcd.client())
}

/// The same.
pub fn consul(consul: &Consul) -> String {
    format!("backend = \"consul\"\naddress = \"http://{}\"", consul.http)
}

/// The agent alone is stopped.
pub fn stop(candidate: &mut Candidate) {
    candidate.container.signal(libc::SIGSTOP);
}

/// It goes on.
pub fn resume(candidate: &mut Candidate) {
    candidate.container.signal(libc::SIGCONT);
}
