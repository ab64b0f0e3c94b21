//! Maintenance on the real program: what others see of it in each catalog, what pauses, who leads, and how it ends.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::time::Duration;

use serde_json::Value;

use crate::election::leading::{Place, leader_is};
use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually};
use crate::support::servers::Consul;

const HEARTBEAT: Duration = Duration::from_secs(1);

/// An instance of this service, told of anew each second; more TOML comes before it.
fn instance(place: &Place, name: &str, more: &str) -> Lab {
    Lab::new(&format!(
        "{more}\n[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[service]]\nname = \"{name}\"\nid = \"{name}-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\nttl = \"3s\"\n\
         [catalog]\n{}\n",
        place.catalog()
    ))
}

/// Writes each change of a service into its story.
fn watch(name: &str) -> String {
    format!(
        "[[watch]]\nservice = \"{name}\"\n\
         on_change = {{ exec = [\"sh\", \"-c\", \"{{ cat; echo; }} >> DIR/story\"] }}\n"
    )
}

/// Others that look for a service.
struct Watcher {
    lab: Lab,
    _container: Container,
}

impl Watcher {
    fn of(place: &Place, name: &str) -> Watcher {
        let lab = Lab::new(&format!(
            "[process]\nexec = [\"sleep\", \"1000\"]\n{}[catalog]\n{}\n",
            watch(name),
            place.catalog()
        ));
        Watcher { _container: lab.run(), lab }
    }

    /// Waits until the changes seen so far left this many instances each.
    #[track_caller]
    fn sees(&self, counts: &[usize]) {
        let seen = || counts_in(&self.lab);
        let sees = eventually("the change", || (seen() == counts).then_some(()));
        sees.unwrap_or_else(|error| panic!("{error}: {:?} and not {counts:?}", seen()));
    }
}

/// How many instances each change that a lab was told of has left.
fn counts_in(lab: &Lab) -> Vec<usize> {
    changes_in(lab).iter().map(|change| change["instances"].as_array().unwrap().len()).collect()
}

/// The changes that a lab was told of, but for a line that is being written.
fn changes_in(lab: &Lab) -> Vec<Value> {
    lab.story().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&lab.ask(&["status", "--json"]).1).unwrap()
}

/// The reason of the instance's maintenance mode in Consul, if it is in any.
fn reason_in(consul: &Consul, id: &str) -> Option<String> {
    let (_, body) = consul.ask("GET", &format!("/v1/agent/health/service/id/{id}"), "");
    let checks = serde_json::from_str::<Value>(&body).unwrap()["Checks"].take();
    let mut checks = checks.as_array().unwrap().iter();
    let mode = checks.find(|check| check["CheckID"] == format!("_service_maintenance:{id}"))?;
    mode["Notes"].as_str().map(str::to_owned)
}

#[test]
fn others_see_an_instance_go_into_maintenance_and_come_back() {
    for place in Place::all() {
        let watcher = Watcher::of(&place, "web");
        let lab = instance(&place, "web", "");
        let mut web = lab.run();
        watcher.sees(&[1]);
        let on = lab.ask(&["maintenance", "on", "--for", "1h", "--reason", "disk 3 & 4"]);
        assert_eq!(on, (0, "in maintenance for 1h: disk 3 & 4\n".to_owned(), String::new()));
        watcher.sees(&[1, 0]);
        if let Place::Consul(consul) = &place {
            assert_eq!(reason_in(consul, "web-1").as_deref(), Some("pilotfish: disk 3 & 4"));
        }
        let off = lab.ask(&["maintenance", "off"]);
        assert_eq!(off, (0, "maintenance is over: ended by request\n".to_owned(), String::new()));
        watcher.sees(&[1, 0, 1]);
        assert_eq!(lab.ask(&["maintenance", "off"]), (0, "not in maintenance\n".to_owned(), String::new()));
        assert_eq!(web.ended(), None, "main ran on");
        let log = web.stderr();
        assert!(log.contains("maintenance.began") && log.contains("maintenance.ended"), "{log}");
    }
}

#[test]
fn the_status_tells_maintenance_and_health_is_what_it_was() {
    let lab = instance(&Place::local(), "web", "");
    let _web = lab.run();
    eventually("health", || (lab.ask(&["health"]).0 == 0).then_some(())).unwrap();
    assert!(status(&lab)["maintenance"].is_null());
    assert_eq!(lab.ask(&["maintenance", "on"]).1, "in maintenance until it is ended\n");
    assert!(lab.ask(&["status"]).1.contains("\nin maintenance since 20"), "{}", lab.ask(&["status"]).1);
    assert!(status(&lab)["maintenance"]["until"].is_null());
    // Said again, it lasts as long as was said last.
    assert_eq!(lab.ask(&["maintenance", "on", "--for", "1h", "--reason", "disk"]).0, 0);
    let told = status(&lab);
    let date = |key: &str| humantime::parse_rfc3339(told["maintenance"][key].as_str().unwrap()).unwrap();
    let lasts = date("until").duration_since(date("since")).unwrap();
    assert!((3600..3660).contains(&lasts.as_secs()), "{lasts:?}");
    assert_eq!(
        (&told["maintenance"]["reason"], &told["services"][0]["status"]),
        (&"disk".into(), &"maintenance".into())
    );
    assert!(lab.ask(&["status"]).1.contains("Z: disk\n"), "{}", lab.ask(&["status"]).1);
    assert_eq!(lab.ask(&["health"]), (0, "ready\n".to_owned(), String::new()));
}

#[test]
fn maintenance_for_a_while_ends_by_itself() {
    let place = Place::local();
    let watcher = Watcher::of(&place, "web");
    let lab = instance(&place, "web", "");
    let web = lab.run();
    watcher.sees(&[1]);
    assert_eq!(lab.ask(&["maintenance", "on", "--for", "1500ms"]).0, 0);
    watcher.sees(&[1, 0]);
    watcher.sees(&[1, 0, 1]);
    assert!(web.stderr().contains("maintenance is over: its time is up"), "{}", web.stderr());
}

#[test]
fn a_restart_of_the_container_ends_maintenance() {
    for place in Place::all() {
        let lab = instance(&place, "web", "");
        let web = lab.run();
        assert_eq!(lab.ask(&["maintenance", "on", "--reason", "disk"]).0, 0);
        eventually("the catalog", || (status(&lab)["services"][0]["published"] == true).then_some(())).unwrap();
        web.signal(libc::SIGKILL);
        drop(web);
        let watcher = Watcher::of(&place, "web");
        std::fs::remove_file(lab.path("control.sock")).unwrap();
        let _again = lab.run();
        watcher.sees(&[1]);
        assert!(status(&lab)["maintenance"].is_null());
    }
}

#[test]
fn a_maintenance_that_a_person_began_in_consul_is_left_alone() {
    let consul = Consul::start();
    let by_hand = |enable| {
        let path = format!("/v1/agent/service/maintenance/web-1?enable={enable}&reason=by+hand");
        assert_eq!(consul.ask("PUT", &path, "").0, 200);
    };
    let catalog = format!("backend = \"consul\"\naddress = \"http://{}\"", consul.http);
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[[service]]\nname = \"web\"\nid = \"web-1\"\nport = 80\n\
         address = [\"static:192.0.2.1\"]\nttl = \"3s\"\n[catalog]\n{catalog}\n"
    ));
    let _web = lab.run();
    let published = || (status(&lab)["services"][0]["published"] == true).then_some(());
    eventually("the entry", published).unwrap();
    by_hand(true);
    assert_eq!(lab.ask(&["maintenance", "on", "--reason", "disk"]).0, 0);
    std::thread::sleep(2 * HEARTBEAT);
    assert_eq!(reason_in(&consul, "web-1").as_deref(), Some("by hand"));
    assert_eq!(lab.ask(&["maintenance", "off"]).0, 0);
    std::thread::sleep(2 * HEARTBEAT);
    assert_eq!(reason_in(&consul, "web-1").as_deref(), Some("by hand"));
    // The other way round: ours comes back when a person ends it, and the person's doesn't outlive what it was for.
    assert_eq!(lab.ask(&["maintenance", "on", "--reason", "disk"]).0, 0);
    by_hand(false);
    let ours = || (reason_in(&consul, "web-1").as_deref() == Some("pilotfish: disk")).then_some(());
    eventually("ours", ours).unwrap();
    assert_eq!(lab.ask(&["maintenance", "off"]).0, 0);
    eventually("its end", || reason_in(&consul, "web-1").is_none().then_some(())).unwrap();
}

#[test]
fn what_changed_in_maintenance_is_told_once_after_it() {
    let place = Place::local();
    let lab = instance(&place, "web", &watch("db"));
    let _web = lab.run();
    let db = instance(&place, "db", "");
    let first = db.run();
    eventually("the first change", || (counts_in(&lab) == [1]).then_some(())).unwrap();
    assert_eq!(lab.ask(&["maintenance", "on"]).0, 0);
    let seen = |count: u64| {
        let seen = || (status(&lab)["watches"][0]["seen"] == count).then_some(());
        eventually("what is seen", seen).unwrap();
    };
    first.signal(libc::SIGTERM);
    seen(0);
    drop(first);
    let other = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[[service]]\nname = \"db\"\nid = \"db-2\"\nport = 80\n\
         address = [\"static:192.0.2.2\"]\n[catalog]\n{}\n",
        place.catalog()
    ));
    let _second = other.run();
    seen(1);
    assert_eq!(counts_in(&lab), [1]);
    assert_eq!(lab.ask(&["maintenance", "off"]).0, 0);
    eventually("the second change", || (counts_in(&lab) == [1, 1]).then_some(())).unwrap();
    let change = changes_in(&lab).pop().unwrap();
    assert_eq!((&change["added"][0]["id"], &change["removed"][0]["id"]), (&"db-2".into(), &"db-1".into()));
}

#[test]
fn a_leader_in_maintenance_hands_over_and_takes_no_part_until_it_is_over() {
    // Side by side: that something doesn't happen takes its time.
    std::thread::scope(|scope| {
        for place in Place::all() {
            scope.spawn(move || {
                let [(one, _first), (two, mut second)] = place.run("");
                one.told("on_promote leader one");
                let (code, said, _) = one.ask(&["maintenance", "on", "--reason", "disk"]);
                assert_eq!((code, said.as_str()), (0, "in maintenance until it is ended: disk\n"));
                two.told("on_promote leader two");
                one.told("on_leader_change replica two");
                second.signal(libc::SIGTERM);
                assert_eq!(second.wait(), Ok(143));
                // Longer than one that stepped down stays away.
                std::thread::sleep(Duration::from_secs(7));
                let nobody = one.ask(&["leader"]).2;
                assert!(nobody.starts_with("error: nobody leads, as far as is known: "), "{nobody}");
                let promotions = || one.story().iter().filter(|line| line.starts_with("on_promote")).count();
                assert_eq!(promotions(), 1, "{:?}", one.story());
                assert_eq!(one.ask(&["maintenance", "off"]).0, 0);
                leader_is(&one, "one");
                eventually("a second promotion", || (promotions() == 2).then_some(())).unwrap();
                let mains = one.story().iter().filter(|line| line.starts_with("main")).count();
                assert_eq!(mains, 1, "main ran on: {:?}", one.story());
            });
        }
    });
}

#[test]
fn a_container_stops_from_within_maintenance() {
    for place in Place::all() {
        let watcher = Watcher::of(&place, "web");
        let lab = instance(&place, "web", "");
        let mut web = lab.run();
        watcher.sees(&[1]);
        assert_eq!(lab.ask(&["maintenance", "on"]).0, 0);
        watcher.sees(&[1, 0]);
        assert_eq!(lab.ask(&["stop"]).0, 0);
        assert_eq!(web.wait(), Ok(143));
        // What its end told the catalog would be here by the time that another one's beginning is.
        let again = instance(&place, "web", "");
        let _again = again.run();
        watcher.sees(&[1, 0, 1]);
    }
}

#[test]
fn usr1_toggles_maintenance_where_the_config_says_so() {
    let lab = instance(&Place::local(), "web", "[control]\nsocket = \"DIR/control.sock\"\nsignals = true\n");
    let web = lab.run();
    let in_maintenance = |so: bool| {
        let told = || (status(&lab)["maintenance"].is_null() != so).then_some(());
        eventually("maintenance", told).unwrap();
    };
    web.signal(libc::SIGUSR1);
    in_maintenance(true);
    assert_eq!(status(&lab)["maintenance"]["reason"], "SIGUSR1 came");
    web.signal(libc::SIGUSR1);
    in_maintenance(false);
}

#[test]
fn an_order_that_makes_no_sense_is_refused_before_anything_happens() {
    let lab = instance(&Place::local(), "web", "");
    let _web = lab.run();
    for (order, what) in [
        (&["maintenance"][..], "Usage: "),
        (&["maintenance", "maybe"], "Usage: "),
        (&["maintenance", "on", "--for", "5"], "`5` has no unit; write the unit: `5s` for seconds"),
        (&["maintenance", "on", "--for", "0s"], "it would be over at once"),
        (&["maintenance", "on", "--reason", ""], "it is empty"),
        (&["maintenance", "off", "--reason", "done"], "Usage: "),
    ] {
        let (code, out, error) = lab.ask(order);
        assert_eq!((code, out.as_str()), (64, ""), "{order:?}: {error}");
        assert!(error.contains(what), "{order:?}: {error}");
    }
    assert!(status(&lab)["maintenance"].is_null());
}
