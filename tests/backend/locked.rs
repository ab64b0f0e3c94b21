//! The real program, with a main, at engines that are locked: let in with what docs/catalogs.md says and no more, turned away
//! with a word on the setting to change while main runs, and no secret in anything it says.
#![allow(clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::net::SocketAddr;

use crate::backend::secured::{Entrance, PASSWORD, ROOT_USER, SecuredConsul, SecuredEtcd35, TOKEN, policy};
use crate::election::leading::leader_is;
use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually};
use crate::support::servers::{Certificates, free_port, http};

const WRONG: &str = "5f0a6a1e-1111-2222-3333-444444444444";

/// An engine as an agent's config knows it.
struct Engine<'a> {
    entrance: &'a Entrance,
    /// `backend` and the key of its address.
    backend: &'static str,
    /// The key of the secret's file.
    secret: &'static str,
}

impl<'a> Engine<'a> {
    fn consul(entrance: &'a Entrance) -> Engine<'a> {
        Engine { entrance, backend: "backend = \"consul\"\naddress = \"https://localhost:PORT\"", secret: "token_file" }
    }

    fn etcd(entrance: &'a Entrance) -> Engine<'a> {
        let backend = "backend = \"etcd\"\nendpoints = [\"https://localhost:PORT\"]\nusername = \"app\"";
        Engine { entrance, backend, secret: "password_file" }
    }

    /// `[catalog]`, with this authority and secret, and a client's certificate or none.
    fn catalog(&self, ca: &str, secret: &str, certificate: bool) -> String {
        let file = |name: &str| self.entrance.certificates.text(name);
        let backend = self.backend.replace("PORT", &self.entrance.port.to_string());
        let identity = format!(", certificate = \"{}\", key = \"{}\"", file("client.pem"), file("client-key.pem"));
        let identity = if certificate { identity } else { String::new() };
        format!("[catalog]\n{backend}\n{} = \"{secret}\"\ntls = {{ ca = \"{ca}\"{identity} }}\n", self.secret)
    }

    /// What nobody may read anywhere.
    fn secrets(&self) -> Vec<String> {
        let key = fs::read_to_string(self.entrance.certificates.path("client-key.pem")).expect("a key");
        let key = key.lines().nth(1).expect("its first line").to_owned();
        // And the user and password of etcd as a header would have them.
        [TOKEN, WRONG, PASSWORD, "YXBwOml0cy1wYXNzd29yZA"].map(str::to_owned).into_iter().chain([key]).collect()
    }
}

/// An agent that tells all it can tell.
struct Talker {
    lab: Lab,
    container: Container,
    telemetry: SocketAddr,
}

impl Talker {
    fn start(config: &str) -> Talker {
        let telemetry = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let lab = Lab::new(&format!(
            "[process]\nexec = [\"sh\", \"-c\", \"echo main >> DIR/story; exec sleep 1000\"]\n\
             [log]\nlevel = \"trace\"\n\
             [telemetry]\nlisten = \"{telemetry}\"\n\
             [[service]]\nname = \"app\"\nid = \"app-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\nttl = \"3s\"\n\
             [[watch]]\nname = \"storage\"\nservice = \"storage\"\non_change = {{ exec = [\"true\"] }}\n\
             [[watch]]\nname = \"settings\"\nkey_prefix = \"app/\"\n\
             on_change = {{ exec = [\"sh\", \"-c\", \"grep -o app/mode >> DIR/story\"] }}\n\
             {config}"
        ));
        let container = lab.run();
        Talker { lab, container, telemetry }
    }

    #[track_caller]
    fn says(&self, words: &str) {
        let said = || self.container.stderr().contains(words).then_some(());
        eventually(words, said).unwrap_or_else(|error| panic!("{error}: {}", self.container.stderr()));
    }

    /// Everything that can be read of it.
    fn all(&self) -> String {
        let mut all = self.container.stdout() + &self.container.stderr();
        for order in [["status"], ["check"], ["render"], ["reload"], ["leader"]] {
            let (_, out, errors) = self.lab.ask(&order);
            all += &(out + &errors);
        }
        for page in ["/", "/metrics", "/status", "/readyz"] {
            all += &http(self.telemetry, "GET", page, &[], "").expect("its relay answers").1;
        }
        // What the orders made it say.
        all + &self.container.stderr()
    }

    #[track_caller]
    fn tells_no_secret_of(&self, engine: &Engine<'_>) {
        let all = self.all();
        assert!(all.contains("app-1") && all.contains("pilotfish_"), "it says much: {all}");
        for secret in engine.secrets() {
            assert!(!all.contains(&secret), "{secret} is in what it says: {all}");
        }
    }
}

/// Each wrong setting in an agent of its own, all at once.
fn turned_away(engine: &Engine<'_>) {
    let good = engine.entrance.certificates.text("ca.pem");
    let other = Certificates::new(&["localhost"]);
    let wrong = engine.entrance.certificates.path("wrong");
    fs::write(&wrong, WRONG).expect("a file");
    let (wrong, right) = (wrong.display().to_string(), engine.entrance.certificates.text("app"));
    let talkers = [
        (engine.catalog(&other.text("ca.pem"), &right, true), "tls.ca"),
        (engine.catalog(&good, &right, false), "tls.certificate"),
        (engine.catalog(&good, &wrong, true), engine.secret),
    ]
    .map(|(catalog, setting)| (Talker::start(&catalog), setting));
    for (mut talker, setting) in talkers {
        talker.lab.told("main");
        talker.says(setting);
        assert_eq!(talker.container.ended(), None, "main runs on");
        talker.tells_no_secret_of(engine);
    }
}

/// An agent that uses every right that docs/catalogs.md gives it, until it has led.
fn let_in(engine: &Engine<'_>) -> Talker {
    let ca = engine.entrance.certificates.text("ca.pem");
    let catalog = engine.catalog(&ca, &engine.entrance.certificates.text("app"), true);
    let talker = Talker::start(&format!("{catalog}[election]\nname = \"mysql\"\n"));
    talker.lab.told("main");
    leader_is(&talker.lab, "app-1");
    talker.says("app-1 is passing");
    talker
}

/// What others write below `app/` is seen, and what is locked is no empty list.
fn sees_a_key(talker: &Talker, put: impl FnOnce()) {
    put();
    talker.lab.told("app/mode");
}

/// It leaves, and nothing was ever refused it.
fn leaves_in_peace(mut talker: Talker) {
    talker.container.signal(libc::SIGTERM);
    assert_eq!(talker.container.wait(), Ok(143));
    let said = talker.container.stderr();
    for refusal in [" 403", "ermission denied", "catalog.failed"] {
        assert!(!said.contains(refusal), "{refusal}: {said}");
    }
}

#[test]
fn at_a_locked_consul_each_wrong_setting_is_named_while_main_runs_and_no_secret_is_told() {
    let consul = SecuredConsul::start_with(|node| policy(&["app"], node));
    turned_away(&Engine::consul(&consul.entrance));
}

#[test]
fn at_a_locked_etcd_each_wrong_setting_is_named_while_main_runs_and_no_secret_is_told() {
    let etcd = SecuredEtcd35::start_for(&["app"]);
    turned_away(&Engine::etcd(&etcd.entrance));
}

#[test]
fn the_documented_policy_for_consul_is_enough_for_an_agent_that_registers_watches_and_leads() {
    let consul = SecuredConsul::start_with(|node| policy(&["app"], node));
    let engine = Engine::consul(&consul.entrance);
    let talker = let_in(&engine);
    sees_a_key(&talker, || assert_eq!(consul.server().ask("PUT", "/v1/kv/app/mode", "on").0, 200));
    talker.tells_no_secret_of(&engine);
    leaves_in_peace(talker);
}

#[test]
fn the_documented_commands_for_etcd_are_enough_for_an_agent_that_registers_watches_and_leads() {
    let etcd = SecuredEtcd35::start_for(&["app"]);
    let engine = Engine::etcd(&etcd.entrance);
    let talker = let_in(&engine);
    let put = || etcd.server().ctl(&[ROOT_USER, "put", "pilotfish/keys/app/mode", "on"]);
    sees_a_key(&talker, || drop(put().expect("root may")));
    talker.tells_no_secret_of(&engine);
    leaves_in_peace(talker);
}

#[test]
fn a_token_that_is_replaced_by_a_wrong_one_and_put_back_is_told_of_and_never_told() {
    let consul = SecuredConsul::start_with(|node| policy(&["app"], node));
    let engine = Engine::consul(&consul.entrance);
    let talker = let_in(&engine);
    let file = engine.entrance.certificates.path("app");
    let replace = |token: &str| {
        fs::write(file.with_extension("new"), token).expect("a file");
        fs::rename(file.with_extension("new"), &file).expect("replaced");
    };
    replace(WRONG);
    talker.says("token_file");
    // The election may be the first to find out, and the token be right again before the next heartbeat.
    talker.says("registering app-1 failed");
    replace(TOKEN);
    talker.says("works again");
    talker.tells_no_secret_of(&engine);
}

#[test]
fn that_a_token_reads_some_nodes_and_may_miss_others_is_said() {
    let consul = SecuredConsul::start_with(|node| {
        let all = policy(&["app"], node);
        assert!(all.contains("node_prefix \"\""), "{all}");
        all.replace("node_prefix \"\"", &format!("node_prefix \"{node}\""))
    });
    let engine = Engine::consul(&consul.entrance);
    let catalog =
        engine.catalog(&engine.entrance.certificates.text("ca.pem"), &engine.entrance.certificates.text("app"), true);
    let talker = Talker::start(&catalog);
    talker.says("may not read all nodes: instances of service storage");
    talker.says("app-1 is passing");
}

#[test]
fn a_certificate_that_is_replaced_by_none_is_said_and_the_one_of_before_goes_on() {
    let consul = SecuredConsul::start_with(|node| policy(&["app"], node));
    let engine = Engine::consul(&consul.entrance);
    let talker = let_in(&engine);
    fs::write(engine.entrance.certificates.path("client.pem"), "being written").expect("a file");
    talker.says("consul is still asked with the old certificates");
    assert!(!talker.container.stderr().contains("catalog.failed"), "{}", talker.container.stderr());
    leader_is(&talker.lab, "app-1");
}
