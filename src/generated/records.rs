//! What the core decides of the records that are kept, each for a bug that there was. `make replay RECORD=FILE` prints it
//! of any other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::emitted::{documented, source};
use super::{is_current, of_the_repository};
use crate::config::{Config, Context, Loaded, Query, Signal};
use crate::recorder::Recorder;
use crate::supervisor::machines::election::event::{Acquisition, Certification, ElectionEvent, Renewal, RequestId};
use crate::supervisor::machines::election::record::{
    Answer, Guarantee, Holder, Last, Lock, PeerRank, Rank, Revision, SessionId, Term, View, Witness,
};
use crate::supervisor::tests::replay::replay;
use crate::supervisor::tests::script::Script;
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Event, Supervisor, Time};

fn replayed(record: &Path) -> String {
    replay(&fs::read_to_string(record).unwrap_or_else(|error| panic!("{}: {error}", record.display())))
}

#[test]
fn every_record_that_is_kept_is_decided_as_it_should_be() {
    if let Some(named) = std::env::var_os("PILOTFISH_RECORD") {
        return println!("{}", replayed(Path::new(&named)));
    }
    let files = fs::read_dir(of_the_repository("src/supervisor/tests/records")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let records: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|end| end == "jsonl")).collect();
    assert!(!records.is_empty());
    for record in records {
        is_current(&record.with_extension("txt"), &replayed(&record));
    }
}

/// Every kind of event and of order, each with all that it may hold; of the election's those that come from outside.
fn one_of_each(config: &Loaded) -> Vec<Event> {
    let (run, session, term) = (RunId(1), SessionId(u128::MAX), Term(u64::MAX));
    let error = SpawnError { code: 127, message: "no \"such\" file\n".to_owned(), hope: Hope::IfItWasThere };
    let failed = || "ä \u{1b}".to_owned();
    let witness = Witness { boot: "b".into(), file: "f".into(), device: 1, inode: u64::MAX };
    let holder = Holder {
        id: "a".into(),
        session,
        term,
        address: Some("10.0.0.1:80".into()),
        owes: Some(Duration::from_millis(3)),
        witness: Some(Arc::new(witness.clone())),
    };
    let last = Last {
        id: "a".into(),
        session,
        term,
        guarantee: Guarantee::WhileAlive { linger: Duration::from_nanos(1) },
        released: true,
        to: Some("b".into()),
        ended: false,
        hold_off_left: Duration::from_millis(1500),
    };
    let view = View { at: 7, lock: Lock::Held(holder), last: Some(last), last_revision: Revision(5) };
    let free = Lock::Free { version: Revision(1), taken_from: Some(session) };
    let instance = Instance {
        id: "app-1".to_owned(),
        node: Some("n1".to_owned()),
        name: "app".to_owned(),
        address: "::1".to_owned(),
        port: 80,
        tags: vec!["a b".to_owned()],
        meta: [("k".to_owned(), "v".to_owned())].into(),
    };
    let saw = |seen| Event::Observed { follow: Follow::Watch("app".to_owned()), seen };
    let template = config.config.watches.iter().find_map(|watch| watch.template.clone()).expect("a template");
    let staged = Staged {
        path: Some("/etc/nginx/.new".into()),
        beside: true,
        text: Text("new".into()),
        template: Arc::new(template),
    };
    let rendered = |outcome| Event::Rendered { watch: "app".to_owned(), outcome };
    let advertised = Advertised { address: "10.0.0.1".to_owned(), why: "so".to_owned() };
    let notification = Notification {
        ready: true,
        watchdog: true,
        watchdog_within: Some(Duration::from_secs(3)),
        extend: Some(Duration::from_secs(9)),
        status: Some(failed()),
        main_pid: Some((7, 4711)),
        ..Default::default()
    };
    let control = |request| Event::Control { reply: ReplyId(1), request };
    let change = KeyChange::Put(Value(vec![0; 3].into()));
    let key_request = KeyRequest { key: "k".to_owned(), operation: KeyOperation::Change(change) };
    let ask = RequestId(1);
    let election = |event| Event::Election(event);
    let peer = |answer| PeerRank { id: "a".into(), term: Term(7), answer, stands: true };
    vec![
        Event::Started,
        Event::Tick,
        Event::Calendar(Calendar::booted_at(jiff::Timestamp::UNIX_EPOCH)),
        Event::ActedBefore { term: Term(7), result: Ok(ElectionPast::Unled) },
        Event::LedBefore { term: Term(7), result: Ok(false) },
        Event::ActingTold { term: Term(7), result: Err(failed()) },
        Event::Signal(Signal::HUP),
        Event::FilesRead { run, result: Ok(Secrets(vec![("A".to_owned(), Vec::new())])) },
        Event::FilesRead { run, result: Err(error.clone()) },
        Event::Spawned { run, pid: 7 },
        Event::SpawnFailed { run, error },
        Event::Exited { run, status: ExitStatus::Killed(Signal::new(34).unwrap()) },
        Event::Forwarded { signal: Signal::TERM, heeded: true },
        Event::FromTerminal { run, signal: Signal::INT },
        Event::RunLost { run },
        Event::RunLeft { run, any: true },
        Event::Printed { run, text: "42\n".to_owned() },
        Event::Strays { left: 2 },
        Event::StrayEnded { status: ExitStatus::Exited(3) },
        Event::Followed { run, pid: None },
        Event::Probed { run, result: Err(failed()) },
        Event::Notified(notification.clone()),
        Event::CoprocessNotified { name: "agent".to_owned(), said: notification },
        Event::Published { service: "web".to_owned(), result: Ok(advertised) },
        Event::Withdrawn { service: "web".to_owned(), result: Err(failed()) },
        saw(Ok(Observation::Instances([instance].into()))),
        saw(Ok(Observation::Instances([].into()))),
        saw(Err(failed())),
        Event::Observed { follow: Follow::WaitFor(0), seen: Ok(Observation::Key(Some("v".to_owned()))) },
        rendered(Rendering::Staged(staged)),
        rendered(Rendering::Unchanged),
        rendered(Rendering::Kept),
        rendered(Rendering::Failed(failed())),
        Event::Installed { watch: "app".to_owned(), result: Ok(()) },
        Event::Hinted { watch: "app".to_owned(), sent: false },
        Event::SeenAnew { follow: Follow::Watch("app".to_owned()) },
        Event::Witness { stands: Err(failed()) },
        Event::Guard { stands: true },
        Event::OuterWatchdog { every: Duration::from_secs(1) },
        Event::ActedBefore { term, result: Ok(ElectionPast::Led) },
        Event::ActingTold { term, result: Ok(()) },
        Event::Calendar(Calendar::booted_at(jiff::Timestamp::UNIX_EPOCH)),
        control(Request::PushMetrics { values: vec![("a{b=\"c\"}".to_owned(), "1".to_owned())] }),
        control(Request::RunTask { name: "backup".to_owned() }),
        control(Request::Restart { name: Some("agent".to_owned()) }),
        control(Request::Signal { signal: Signal::HUP, name: None }),
        control(Request::Await { query: Query::Key { key: "k".to_owned() }, within: Duration::from_secs(1) }),
        control(Request::Key { request: key_request, fenced: true }),
        control(Request::Reload),
        Event::ConfigLoaded(Ok(Box::new(config.clone()))),
        Event::ConfigLoaded(Err(failed())),
        control(Request::StepDown { to: Some("b".to_owned()) }),
        control(Request::AcceptTerm),
        control(Request::BeginMaintenance { lasts: Some(Duration::from_millis(1)), reason: Some(failed()) }),
        control(Request::EndMaintenance),
        election(ElectionEvent::Saw(Ok(view.clone()))),
        election(ElectionEvent::Opened { ask, result: Ok((session, Guarantee::For(Duration::MAX), Revision(1))) }),
        election(ElectionEvent::Looked { ask, result: Ok(View { lock: free, last: None, ..view.clone() }) }),
        election(ElectionEvent::Acquired { ask, result: Acquisition::Won(term) }),
        election(ElectionEvent::Acquired { ask, result: Acquisition::Unknown(failed()) }),
        election(ElectionEvent::Renewed { ask, result: Renewal::Alive(view) }),
        election(ElectionEvent::Renewed { ask, result: Renewal::Gone { void: true } }),
        election(ElectionEvent::Released { ask, result: Ok(()) }),
        election(ElectionEvent::Measured { ask, result: Ok(Rank::Number(i128::MIN)) }),
        election(ElectionEvent::Ranks {
            ask,
            result: Ok(vec![peer(Answer::Measuring), peer(Answer::Known(Rank::Never))]),
        }),
        election(ElectionEvent::Ranks {
            ask,
            result: Ok(vec![peer(Answer::Failed), peer(Answer::Known(Rank::Text("3/1".into())))]),
        }),
        election(ElectionEvent::Published { ask, result: Ok(()) }),
        election(ElectionEvent::Acts { term }),
        election(ElectionEvent::AcceptLoss),
        control(Request::AcceptLoss),
        election(ElectionEvent::Gone { witness }),
        election(ElectionEvent::Certified { ask, result: Certification::Lingers(Duration::from_secs(1)) }),
        control(Request::Stop),
        Event::Exited { run, status: ExitStatus::Exited(0) },
        Event::Strays { left: 0 },
    ]
}

/// A config with something for most of them.
fn loaded() -> Loaded {
    let text = "process = { exec = [\"main\"], env_from_files = { A = \"/run/a\" } }\n\
                stop.within = \"1s\"\n\
                hooks.on_promote = { exec = [\"promote\"] }\n\
                catalog = { backend = \"etcd\", endpoints = [\"http://e:2379\"] }\n\
                service = [{ name = \"web\", port = 80 }]\n\
                wait_for = [{ key = \"k\", timeout = \"1m\" }]\n\
                election = { name = \"db\", rank = { exec = [\"rank\"] } }\n\
                [[watch]]\nname = \"app\"\nservice = \"app\"\nsignal = \"HUP\"\n\
                template = { source = \"/s\", destination = \"/d\", check = [\"nginx\", \"{}\"] }\n";
    let context = Context { hostname: "web1".to_owned(), ..Context::default() };
    Config::from_text(text, Path::new("t.toml"), None, &context).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_kind_of_event_is_put_on_record() {
    let events = one_of_each(&loaded());
    let of = |text: String| text.chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
    let orders = events.iter().filter_map(|event| match event {
        Event::Control { request, .. } => Some(of(format!("{request:?}"))),
        _ => None,
    });
    let orders: BTreeSet<String> = orders.collect();
    let events: BTreeSet<String> = events.iter().map(|event| of(format!("{event:?}"))).collect();
    let source = source("src/supervisor/vocabulary/event.rs");
    let kinds = |item| documented(&source, item).into_iter().map(|(name, _)| name).collect::<BTreeSet<String>>();
    assert_eq!(events, kinds("pub enum Event {"));
    assert_eq!(orders, kinds("pub enum Request {"));
}

#[test]
fn a_record_leads_the_core_to_what_the_events_themselves_led_it_to() {
    let loaded = loaded();
    let mut recorder = Recorder::new(loaded.written.clone(), 7);
    let mut script = Script::of(Supervisor::new(loaded.config.clone(), 7));
    let mut decided = Vec::new();
    // Twice, since much of it means something only to who has got so far.
    let events = one_of_each(&loaded);
    for (second, event) in events.iter().chain(&events).enumerate() {
        let now = Time::since_boot(Duration::from_secs(1000) + Duration::from_millis(300) * second as u32);
        let only_heard = second % 3 == 0;
        recorder.note(now, event, only_heard);
        decided.extend(script.is_told(now, event.clone(), only_heard));
    }
    let replayed = replay(&recorder.hand_out());
    let replayed: Vec<&str> = replayed.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let decided = decided.join("\n");
    assert_eq!(replayed.join("\n"), decided);
    assert!(
        ["publish rank", "spawn template_check of app", "exit 0"].iter().all(|order| decided.contains(order)),
        "{decided}"
    );
}
