//! What a run leaves behind, in every shape that may take, at every kind of end: who left it × shape × end. Nothing is
//! left when the container goes on, and that takes no longer than the leftovers do: no time where they obey, a bound of
//! the config's where they can't. Each test prints when each was gone.
//!
//! Who is left holds a file's lock (flock(2)): it lasts as long as any thread of any process that has it, whatever /proc
//! says.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use crate::election::leading::Place;
use crate::support::lab::Lab;
use crate::support::namespace::{Container, copy_program, eventually, specimen};
use crate::support::servers::{Consul, Etcd};

/// A name, and how a shell script starts it in the background: `RECORD` writes down what it is told, and obeys; `HOLD`
/// handles no signal.
type Shape = (&'static str, &'static str);

/// Those that obey.
const OBEYING: &[Shape] = &[
    ("plain-fork", "RECORD &"),
    ("double-fork", "(RECORD &)"),
    ("setsid", "setsid RECORD &"),
    ("timeout", "timeout 600 RECORD &"),
    ("nohup", "nohup RECORD >/dev/null 2>&1 &"),
    // Fifteen bytes of the name are kept, the last of them half a character.
    ("name-cut-in-a-character", "setsid DIR/наименование-службы record $F 15 &"),
    ("first-thread-gone", "setsid SPECIMEN record-headless $F 15 &"),
    ("dead-parent-between", "setsid sh -c 'sh -c \"setsid RECORD & sleep 0.1\"; exec RECORD' &"),
];

/// The init of a namespace of its own gets no TERM that it doesn't handle (pid_namespaces(7)): it lasts until KILL.
const NAMESPACE: &[Shape] = &[("pid-namespace", "setsid unshare --pid --fork HOLD &")];

/// `[stop] within` here: between TERM and KILL of what main left.
const MAINS: Duration = Duration::from_secs(3);
/// Between TERM and KILL of what a hook or check left.
const HOOKS: Duration = Duration::from_secs(2);
/// Of hooks and checks that hang: all they leave behind is there by then.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(10);

/// A container whose runs leave these shapes behind.
struct Leaving {
    lab: Lab,
    shapes: &'static [Shape],
}

impl Leaving {
    /// In `config`, and in the script `main`, `LEAVE who` leaves all shapes behind and waits until they are there;
    /// `ALONE who` tells the story which of what `who` left at first are there.
    fn new(shapes: &'static [Shape], main: &str, config: &str) -> Leaving {
        let lab = Lab::new("");
        let words = |text: &str| {
            text.replace("RECORD", "SPECIMEN record $F 15")
                .replace("HOLD", "SPECIMEN hold $F")
                .replace("SPECIMEN", specimen().to_str().unwrap())
                .replace("LEAVE", "sh DIR/leave")
                .replace("ALONE", "sh DIR/alone")
                .replace("DIR", lab.path("").to_str().unwrap().trim_end_matches('/'))
        };
        let mut leave = "to=DIR/left/$1; [ -e $to ] && to=$to.$$\nmkdir -p $to; export F\n".to_owned();
        for (name, start) in shapes {
            writeln!(leave, "F=$to/{name}\n{start}").unwrap();
        }
        writeln!(leave, "until [ $(grep -ls ready $to/* | wc -l) = {} ]; do sleep 0.02; done", shapes.len()).unwrap();
        // This test looks at the lock too, for a moment.
        let alone = "for f in DIR/left/$1/*; do [ ! -e $f ] || flock -w 0.05 -x $f true || echo left: $1 ${f##*/} >> DIR/story; done\n\
                     echo looked for $1 >> DIR/story";
        copy_program(&specimen(), &lab.path("наименование-службы"));
        for (file, script) in [("leave", leave.as_str()), ("alone", alone), ("main", main)] {
            fs::write(lab.path(file), words(script)).unwrap();
        }
        lab.write(&words(&format!("[process]\nexec = [\"sh\", \"DIR/main\"]\n{config}\n[stop]\nwithin = \"3s\"\n")));
        Leaving { lab, shapes }
    }

    /// Waits until all that `who` leaves behind is there.
    fn has_left(&self, who: &str, container: &Container) {
        let ready = |shape: &&Shape| self.words(who, shape.0).starts_with("ready");
        eventually(who, || self.shapes.iter().all(|shape| ready(&shape)).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    }

    fn words(&self, who: &str, shape: &str) -> String {
        fs::read_to_string(self.lab.path("left").join(who).join(shape)).unwrap_or_default()
    }

    fn is_there(&self, who: &str, shape: &str) -> bool {
        use nix::fcntl::{Flock, FlockArg};
        let file = File::open(self.lab.path("left").join(who).join(shape)).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
    }

    /// Waits until nothing is left of each, and prints when what was gone. `bounds` are for those that can't obey;
    /// those that can have `bound` alone.
    fn is_gone(&self, end: &str, bound: Duration, bounds: &[(&str, Duration)], container: &Container) {
        let begun = Instant::now();
        let obey = self.shapes.len() == OBEYING.len();
        let all = bounds.iter().flat_map(|(who, more)| self.shapes.iter().map(move |shape| (*who, shape.0, *more)));
        let mut left: Vec<_> = all.collect();
        while !left.is_empty() {
            let took = begun.elapsed();
            left.retain(|(who, shape, more)| {
                let there = self.is_there(who, shape);
                let within = bound + if obey { Duration::ZERO } else { *more } + SLACK;
                assert!(!there || took < within, "{who}, {shape}, {end}: after {took:?}: {}", container.stderr());
                if !there {
                    println!("{end} of {who}: {shape} is gone after {} ms", took.as_millis());
                }
                there
            });
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it was looked for what each left, and nothing was there.
    fn was_alone(&self, whose: &[&str], container: &Container) {
        whose.iter().for_each(|who| self.lab.told(&format!("looked for {who}")));
        let story = self.lab.story();
        assert!(!story.iter().any(|line| line.starts_with("left:")), "{story:?}: {}", container.stderr());
    }

    /// All that can hear a TERM got one.
    fn was_told(&self, whose: &[&str], container: &Container) {
        for who in whose {
            for (shape, _) in self.shapes.iter().filter(|_| self.shapes.len() == OBEYING.len()) {
                let told = self.words(who, shape).lines().any(|line| line == "15");
                assert!(told, "{who}, {shape} wasn't told: {}", container.stderr());
            }
        }
    }

    /// Stops the container; what it may take is `[stop] within` where something can't obey.
    fn stops(&self, end: &str, container: &mut Container) {
        let begun = Instant::now();
        container.signal(libc::SIGTERM);
        let code = container.wait();
        let took = begun.elapsed();
        let obey = self.shapes.len() == OBEYING.len();
        println!("{end}: {} shapes, ended after {} ms with {code:?}", self.shapes.len(), took.as_millis());
        assert!(
            code.is_ok() && took < SLACK + if obey { Duration::ZERO } else { MAINS },
            "{took:?}: {}",
            container.stderr()
        );
    }
}

/// One kind of end with all shapes: those that obey, and beside them those that can't.
fn each(end: impl Fn(&'static [Shape]) + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| end(OBEYING));
        scope.spawn(|| end(NAMESPACE));
    });
}

/// A member of an election whose runs leave things behind as long as they may: hooks and a watch of the leader's keep
/// theirs, a check hangs once there is a file `hang`.
fn member(place: &Place, id: &str, more: &str) -> String {
    format!(
        "restart = {{ policy = \"on-failure\", backoff = \"50ms\" }}\n\
         [hooks]\npre_start = {{ exec = [\"sh\", \"-c\", \"[ -e DIR/left/main ] && ALONE main; LEAVE pre_start\"], timeout = \"20s\" }}\n\
         on_promote = {{ exec = [\"sh\", \"-c\", \"LEAVE on_promote\"], timeout = \"20s\", leftovers = \"keep\" }}\n\
         {more}\n\
         [[health]]\nexec = [\"sh\", \"-c\", \"[ -e DIR/hang ] && LEAVE health && exec sleep 1000; true\"]\n\
         timeout = \"60s\"\ninterval = \"100ms\"\nstart_interval = \"100ms\"\n\
         [[watch]]\nservice = \"db\"\nwhen = \"leader\"\n\
         on_change = {{ exec = [\"sh\", \"-c\", \"LEAVE on_change\"], timeout = \"20s\", leftovers = \"keep\" }}\n\
         [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 80\naddress = [\"static:127.0.0.1\"]\n\
         [catalog]\n{}\n",
        place.catalog()
    )
}

const ELECTION: &str = "[election]\nname = \"db\"\n";
/// How a leader ends beside another candidate that waits.
#[derive(Clone, Copy)]
enum Leaves {
    ByStepDown,
    ByCrash,
}

const ALL: [&str; 4] = ["main", "on_promote", "on_change", "health"];
const BOUNDS: [(&str, Duration); 4] = [("main", MAINS), ("on_promote", HOOKS), ("on_change", HOOKS), ("health", HOOKS)];

/// Waits until every run has left what it leaves.
fn all_have_left(leaving: &Leaving, container: &Container) {
    ["pre_start", "main", "on_promote", "on_change"].iter().for_each(|who| leaving.has_left(who, container));
    fs::write(leaving.lab.path("hang"), "").unwrap();
    leaving.has_left("health", container);
}

#[test]
fn nothing_but_pre_starts_is_left_when_a_crashed_main_is_started_again() {
    each(|shapes| {
        let main = "if [ -e DIR/left/main ]; then\n\
                    for who in main on_promote on_change health; do ALONE $who; done; exec sleep 1000\nfi\n\
                    LEAVE main; until [ -e DIR/go ]; do sleep 0.02; done; exit 5";
        let place = Place::local();
        let leaving = Leaving::new(shapes, main, &format!("{}{ELECTION}", member(&place, "one", "")));
        let mut container = leaving.lab.run();
        all_have_left(&leaving, &container);
        fs::remove_file(leaving.lab.path("hang")).unwrap();
        fs::write(leaving.lab.path("go"), "").unwrap();
        leaving.is_gone("crash", Duration::ZERO, &BOUNDS, &container);
        leaving.was_alone(&ALL, &container);
        leaving.was_told(&ALL, &container);
        // Which has run anew, for a leader's main had crashed: what it kept before was ended first.
        leaving.has_left("pre_start", &container);
        leaving.stops("stop after a crash", &mut container);
        leaving.was_told(&["pre_start"], &container);
    });
}

/// On every store: the next leader finds nothing that the last one left.
fn nothing_is_left_when_the_next_one_leads(end: Leaves) {
    let on = |place: &Place, shapes| {
        let standby = format!("{ELECTION}mode = \"standby\"\n");
        let main = "LEAVE main; until [ -e DIR/go ]; do sleep 0.02; done; exit 5";
        let leaving = Leaving::new(shapes, main, &format!("{}{standby}", member(place, "one", "")));
        let container = leaving.lab.run();
        all_have_left(&leaving, &container);
        let next = Lab::new(&format!(
            "[process]\nexec = [\"sleep\", \"1000\"]\n[hooks]\non_promote = {{ exec = [\"sh\", \"-c\", \
             \"for who in main on_promote on_change health; do sh {} $who; done\"] }}\n\
             [[service]]\nname = \"db\"\nid = \"two\"\nport = 80\naddress = [\"static:127.0.0.1\"]\n\
             [catalog]\n{}\n{standby}",
            leaving.lab.path("alone").display(),
            place.catalog()
        ));
        let _next = next.run();
        eventually("a follower", || next.ask(&["leader"]).1.starts_with("one ").then_some(())).unwrap();
        let bounds = match end {
            Leaves::ByStepDown => {
                assert_eq!(leaving.lab.ask(&["step-down", "--to", "two"]).0, 0);
                // Main is told once nothing else acts for the leader.
                BOUNDS.map(|(who, more)| if who.starts_with("on_") { (who, more) } else { (who, HOOKS + more) })
            }
            Leaves::ByCrash => {
                fs::write(leaving.lab.path("go"), "").unwrap();
                BOUNDS.map(|(who, more)| (who, HOOKS + more))
            }
        };
        leaving.is_gone("the leader's end", Duration::ZERO, &bounds, &container);
        leaving.was_alone(&ALL, &container);
        leaving.was_told(&ALL, &container);
    };
    let places = [Place::local(), Place::Consul(Consul::start()), Place::Etcd(Etcd::start("etcd35"))];
    thread::scope(|scope| {
        for place in &places {
            // Each pair of candidates has the election to itself.
            scope.spawn(move || [OBEYING, NAMESPACE].into_iter().for_each(|shapes| on(place, shapes)));
        }
    });
}

#[test]
fn nothing_is_left_of_a_leader_that_has_stepped_down_when_the_next_one_leads() {
    nothing_is_left_when_the_next_one_leads(Leaves::ByStepDown);
}

#[test]
fn nothing_is_left_of_a_leader_whose_main_crashed_when_the_next_one_leads() {
    nothing_is_left_when_the_next_one_leads(Leaves::ByCrash);
}

#[test]
fn a_stop_tells_all_that_is_left_and_takes_no_longer_than_it() {
    each(|shapes| {
        let main = "trap 'ALONE pre_stop; exit 0' TERM; LEAVE main; while :; do sleep 0.05; done";
        let pre_stop = "pre_stop = { exec = [\"sh\", \"-c\", \"LEAVE pre_stop\"], timeout = \"20s\" }\n";
        let place = Place::local();
        let leaving = Leaving::new(shapes, main, &format!("{}{ELECTION}", member(&place, "one", pre_stop)));
        let mut container = leaving.lab.run();
        all_have_left(&leaving, &container);
        leaving.stops("stop", &mut container);
        leaving.was_alone(&["pre_stop"], &container);
        leaving.was_told(&["pre_start", "main", "on_promote", "on_change", "health", "pre_stop"], &container);
        leaving.is_gone("stop", Duration::ZERO, &[("pre_start", MAINS), ("pre_stop", HOOKS)], &container);
    });
}

#[test]
fn nothing_is_left_of_hooks_and_checks_past_their_timeout() {
    each(|shapes| {
        let main = "trap 'ALONE pre_stop; exit 0' TERM; echo main >> DIR/story; while :; do sleep 0.05; done";
        // Each hangs when it runs first.
        let hangs = |who: &str, more: &str| {
            format!(
                "{{ exec = [\"sh\", \"-c\", \"[ -e DIR/left/{who} ] && ALONE {who} && exit 0; LEAVE {who}; sleep 1000\"], \
                 timeout = \"{}s\"{more} }}",
                TIMEOUT.as_secs()
            )
        };
        let place = Place::local();
        let config = format!(
            "[hooks]\npre_start = {}\non_promote = {}\n\
             pre_stop = {{ exec = [\"sh\", \"-c\", \"LEAVE pre_stop; sleep 1000\"], timeout = \"1s\" }}\n\
             [[health]]\nexec = [\"sh\", \"-c\", \"[ -e DIR/hang ] || exit 0; [ -e DIR/left/health ] && ALONE health && \
             exit 0; LEAVE health; sleep 1000\"]\n\
             timeout = \"3s\"\ninterval = \"100ms\"\nstart_interval = \"100ms\"\n\
             [[watch]]\nservice = \"db\"\non_change = {}\n\
             [[service]]\nname = \"db\"\nid = \"one\"\nport = 80\naddress = [\"static:127.0.0.1\"]\n\
             [catalog]\n{}\n{ELECTION}",
            hangs("pre_start", ", retries = 1, backoff = \"50ms..50ms\""),
            hangs("on_promote", ""),
            hangs("on_change", ""),
            place.catalog()
        );
        let leaving = Leaving::new(shapes, main, &config);
        let mut container = leaving.lab.run();
        leaving.has_left("pre_start", &container);
        leaving.is_gone("timeout", TIMEOUT, &[("pre_start", HOOKS)], &container);
        leaving.lab.told("main");
        ["on_promote", "on_change"].iter().for_each(|who| leaving.has_left(who, &container));
        fs::write(leaving.lab.path("hang"), "").unwrap();
        leaving.has_left("health", &container);
        let bounds = [("on_promote", HOOKS), ("on_change", HOOKS), ("health", HOOKS)];
        leaving.is_gone("timeout", TIMEOUT, &bounds, &container);
        leaving.was_alone(&["pre_start", "on_promote", "on_change", "health"], &container);
        leaving.was_told(&["pre_start", "on_promote", "on_change", "health"], &container);
        let begun = Instant::now();
        container.signal(libc::SIGTERM);
        assert!(container.wait().is_ok(), "{}", container.stderr());
        println!("timeout of pre_stop: the container ended after {} ms", begun.elapsed().as_millis());
        assert!(begun.elapsed() < MAINS + SLACK, "{:?}: {}", begun.elapsed(), container.stderr());
        leaving.was_alone(&["pre_stop"], &container);
    });
}
