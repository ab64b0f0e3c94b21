//! The leader's whole container is frozen past its lease, and thawed when the other one leads. Until the guard has been
//! run main may act: it is measured for how long, and that a resource which checks the term takes none of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::figures::Figures;
use super::freezer::Freezer;
use super::pair::{Config, Pair, SHORTEST, Story, TELL};
use super::resource::Resource;
use crate::faults::nemesis::register::{Act, now};
use crate::support::lab::Lab;
use crate::support::servers::{Consul, Etcd};

/// How many of main's threads do nothing but act and compute.
const WORKERS: usize = 8;

fn frozen(what: &str, catalog: &str, rounds: usize) {
    let resource = Resource::new();
    let main = format!("exec ACTOR work DIR/actor {} ID {WORKERS}", resource.path().display());
    let config = Config { catalog, election: SHORTEST, main: &main, tell: TELL, user: None };
    let refused: Rc<RefCell<Vec<Act>>> = Rc::default();
    let accepted: Rc<RefCell<usize>> = Rc::default();
    let story = Story::of({
        let (refused, accepted) = (Rc::clone(&refused), Rc::clone(&accepted));
        move || {
            let (done, late): (Vec<_>, Vec<_>) = resource.news().into_iter().partition(|asked| asked.accepted);
            refused.borrow_mut().extend(late.into_iter().map(|asked| asked.act));
            *accepted.borrow_mut() += done.len();
            done.into_iter().map(|asked| asked.act).collect()
        }
    });
    let freezers = [Rc::new(Freezer::new()), Rc::new(Freezer::new())];
    let mut next = freezers.iter().cloned();
    let mut pair = Pair::each(&config, story, || {
        let freezer = next.next().expect("one for each");
        Box::new(move |lab: &Lab| freezer.holds(lab.start()))
    });
    let (mut acted, mut vacant) = (Figures::default(), Figures::default());
    let (mut acts, mut on_the_way, mut silent) = (0, 0, 0);
    let since = now();
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis((1000 + round * 370 % 1000) as u64));
        let index = |id: &str| usize::from(id == "two");
        let succession = pair.succession(|candidate| freezers[index(candidate.id)].freeze());
        assert_ne!(succession.winner, succession.loser);
        vacant.add(succession.vacant);
        assert_eq!(*refused.borrow(), [], "before the thaw");
        let elder = pair.story.turns.iter().rev().nth(1).expect("one led before").clone();
        let thawed = now();
        freezers[succession.loser].thaw();
        pair.recovers(&succession);
        pair.story.look();
        // Whatever it did after the other's first act was refused, or the judge would tell of it in the end.
        let late = std::mem::take(&mut *refused.borrow_mut());
        assert!(late.iter().all(|act| act.who == elder.who && act.term == elder.term), "{late:?}");
        let after = late.iter().filter(|act| act.at >= thawed);
        acts += after.clone().count();
        on_the_way += late.len() - after.clone().count();
        let last = after.map(|act| act.at).max();
        silent += usize::from(last.is_none());
        acted.add(last.map_or(0, |last| last - thawed));
    }
    println!(
        "container frozen and thawed, {WORKERS} busy workers, {what}\n  \
         acted after the thaw for  {acted}\n  nobody acted before it    {vacant}\n  \
         {acts} acts after a thaw, all refused; {silent} rounds without any; {on_the_way} acts were on their way, refused \
         too; accepted: {:.0} a second",
        *accepted.borrow() as f64 / ((now() - since) as f64 / 1e9)
    );
    pair.never_two(rounds + 1);
}

#[test]
fn what_a_thawed_leader_does_before_its_guard_runs_is_refused() {
    let etcd = Etcd::start("etcd35");
    frozen("etcd", &format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", etcd.client()), 2);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn containers_frozen_and_thawed_on_etcd() {
    let etcd = Etcd::start("etcd35");
    frozen("etcd", &format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", etcd.client()), 100);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn containers_frozen_and_thawed_on_consul() {
    let consul = Consul::start();
    frozen("Consul", &format!("backend = \"consul\"\naddress = \"http://{}\"", consul.http), 20);
}
