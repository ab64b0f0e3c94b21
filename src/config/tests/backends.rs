//! `[catalog]` with Consul and etcd.

use std::path::{Path, PathBuf};

use crate::config::backends::{ClientIdentity, ConsulAddress, Endpoint, Secret, SecretSource};
use crate::config::{Backend, Config, Context};

fn load(catalog: &str, variables: &[(&str, &str)]) -> Result<(Config, String), String> {
    let text = format!("process.exec = [\"a\"]\n[catalog]\n{catalog}");
    let context = Context { variables: variables.iter().copied().collect(), hostname: "web1".to_owned() };
    match Config::from_text(&text, Path::new("t.toml"), None, &context) {
        Ok(loaded) => Ok((loaded.config, loaded.warnings.iter().map(|warning| format!("{warning}\n")).collect())),
        Err(report) => Err(report.to_string()),
    }
}

fn consul(catalog: &str, variables: &[(&str, &str)]) -> crate::config::backends::Consul {
    let text = format!("backend = \"consul\"\n{catalog}");
    match load(&text, variables).unwrap_or_else(|report| panic!("{report}")).0.catalog.backend {
        Backend::Consul(consul) => *consul,
        other => panic!("not consul: {other:?}"),
    }
}

fn tcp(https: bool, host: &str, port: u16) -> ConsulAddress {
    ConsulAddress::Tcp(Endpoint { https, host: host.to_owned(), port })
}

#[test]
fn consul_is_on_loopback_unless_the_file_or_its_own_variables_say_otherwise() {
    assert_eq!(consul("", &[]).address, tcp(false, "127.0.0.1", 8500));
    assert_eq!(consul("", &[("CONSUL_HTTP_ADDR", "consul:18500")]).address, tcp(false, "consul", 18500));
    let ssl = [("CONSUL_HTTP_ADDR", "consul:8501"), ("CONSUL_HTTP_SSL", "true")];
    assert_eq!(consul("", &ssl).address, tcp(true, "consul", 8501));
    let socket = [("CONSUL_HTTP_ADDR", "unix:///run/consul.sock")];
    assert_eq!(consul("", &socket).address, ConsulAddress::Unix("/run/consul.sock".into()));
    assert_eq!(consul("address = \"https://other\"", &ssl).address, tcp(true, "other", 8501));
}

#[test]
fn a_token_comes_from_a_file_or_from_consuls_own_variables_and_shows_nowhere() {
    assert_eq!(consul("", &[]).token, None);
    let variables = [("CONSUL_HTTP_TOKEN", "sesame")];
    let from_variable = consul("", &variables);
    assert_eq!(from_variable.token, Some(SecretSource::Given(Secret::new("sesame"))));
    assert!(!format!("{from_variable:?}").contains("sesame"));
    let file = Some(SecretSource::File("/run/t".into()));
    assert_eq!(consul("token_file = \"/run/t\"", &variables).token, file);
    assert_eq!(consul("", &[("CONSUL_HTTP_TOKEN_FILE", "/run/t"), ("CONSUL_HTTP_TOKEN", "sesame")]).token, file);
    let login = consul("", &[("CONSUL_HTTP_AUTH", "me:se:same")]).basic.unwrap();
    assert_eq!((login.username.as_str(), login.password), ("me", Some(SecretSource::Given(Secret::new("se:same")))));
}

#[test]
fn certificates_come_from_the_file_or_from_consuls_own_variables() {
    let variables = [
        ("CONSUL_HTTP_ADDR", "https://consul"),
        ("CONSUL_CACERT", "/ca"),
        ("CONSUL_CLIENT_CERT", "/c"),
        ("CONSUL_CLIENT_KEY", "/k"),
        ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
    ];
    let tls = consul("", &variables).tls;
    assert_eq!(tls.ca, Some(PathBuf::from("/ca")));
    assert_eq!(tls.identity, Some(ClientIdentity { certificate: "/c".into(), key: "/k".into() }));
    assert_eq!(tls.server_name.as_deref(), Some("server.dc1.consul"));
    assert_eq!(consul("tls = { ca = \"/other\" }", &variables).tls.ca, Some(PathBuf::from("/other")));
}

#[test]
fn etcd_has_endpoints_and_perhaps_a_user() {
    let text = "backend = \"etcd\"\nendpoints = [\"https://etcd1\", \"https://[::1]:2380\"]\n\
                username = \"mysql\"\npassword_file = \"/run/p\"\ntls = { ca = \"/ca\" }";
    let (config, warnings) = load(text, &[]).unwrap();
    let Backend::Etcd(etcd) = config.catalog.backend else { panic!("not etcd") };
    let places: Vec<_> = etcd.endpoints.iter().map(Endpoint::to_string).collect();
    assert_eq!(places, ["https://etcd1:2379", "https://[::1]:2380"]);
    assert_eq!(etcd.login.unwrap().username, "mysql");
    assert_eq!(warnings, "");
}

#[test]
fn what_contradicts_itself_is_refused_with_the_key() {
    for (text, words) in [
        ("backend = \"etcd\"", "the etcd catalog has no `endpoints`"),
        ("backend = \"etcd\"\nendpoints = []", "`endpoints` is empty"),
        ("backend = \"etcd\"\nendpoints = [\"etcd1:0\"]", "no port from 1 to 65535"),
        ("backend = \"consul\"\naddress = \"https://me:x@consul\"", "`username`"),
        ("backend = \"consul\"\npassword_file = \"/p\"", "`password_file` without `username`"),
        (
            "backend = \"consul\"\naddress = \"https://a\"\ntls = { certificate = \"/c\" }",
            "`certificate` without `key`",
        ),
        ("backend = \"consul\"\naddress = \"https://a\"\ntls = { key = \"/c\" }", "`key` without `certificate`"),
        ("backend = \"consul\"\naddress = \"https://a\"\ntls = { server_name = \"10.0.0.1\" }", "isn't a host name"),
    ] {
        let report = load(text, &[]).expect_err(text);
        assert!(report.contains(words), "{words}:\n{report}");
    }
    let report = load("backend = \"consul\"", &[("CONSUL_HTTP_ADDR", "ftp://a")]).unwrap_err();
    assert!(report.contains("CONSUL_HTTP_ADDR"), "{report}");
    let variables = [("CONSUL_HTTP_ADDR", "https://a"), ("CONSUL_TLS_SERVER_NAME", "10.0.0.1")];
    let report = load("backend = \"consul\"", &variables).expect_err("an address isn't a name");
    assert!(report.contains("`CONSUL_TLS_SERVER_NAME` isn't a host name"), "{report}");
    assert!(load("backend = \"consul\"\ntls = { server_name = \"a\" }", &variables).is_ok(), "the file's counts");
}

#[test]
fn what_does_nothing_is_said() {
    for (text, words) in [
        ("backend = \"consul\"\ndirectory = \"/d\"", "`directory` without"),
        ("backend = \"consul\"\nendpoints = [\"a\"]", "`endpoints` without"),
        ("backend = \"local\"\ndirectory = \"/d\"\naddress = \"a\"", "`address` without"),
        ("backend = \"consul\"\ntls = { ca = \"/ca\" }", "`tls` without an https address"),
    ] {
        let (_, warnings) = load(text, &[]).unwrap_or_else(|report| panic!("{report}"));
        assert!(warnings.contains(words), "{words}:\n{warnings}");
    }
    let variables = [("CONSUL_HTTP_ADDR", "https://a"), ("CONSUL_HTTP_SSL_VERIFY", "false")];
    let (_, warnings) = load("backend = \"consul\"", &variables).unwrap();
    assert!(warnings.contains("always verifies"), "{warnings}");
}

#[test]
fn what_consul_refuses_at_each_heartbeat_is_refused_by_the_config() {
    let report = |backend: &str, meta: &str| {
        let service = format!("[[service]]\nname = \"web\"\nport = 80\nmeta = {{ {meta} }}");
        load(&format!("{backend}\n{service}"), &[])
    };
    let (consul, etcd) = ("backend = \"consul\"", "backend = \"etcd\"\nendpoints = [\"http://etcd\"]");
    let many: Vec<String> = (0..65).map(|n| format!("k{n} = \"1\"")).collect();
    let refused = [
        ("\"app.version\" = \"1\"".to_owned(), "letters, digits"),
        ("\"größe\" = \"1\"".to_owned(), "letters, digits"),
        ("\"consul-x\" = \"1\"".to_owned(), "keeps for itself"),
        (format!("{} = \"1\"", "k".repeat(129)), "128 characters"),
        (format!("v = \"{}\"", "x".repeat(513)), "takes 512"),
        (many.join(", "), "takes 64"),
    ];
    for (meta, words) in refused {
        let error = report(consul, &meta).unwrap_err();
        assert!(error.contains(words) && error.contains("t.toml:"), "{error}");
        assert!(report(etcd, &meta).is_ok(), "{meta}");
    }
    let fits = format!("{} = \"{}\"", "k".repeat(128), "x".repeat(512));
    assert_eq!(report(consul, &fits).unwrap().1, "");
}

#[test]
fn tags_and_meta_that_nobody_would_take_in_are_refused_by_every_catalog() {
    for catalog in ["backend = \"consul\"", "backend = \"etcd\"\nendpoints = [\"http://etcd\"]"] {
        let refused = [
            ("tags = [\"a\\u001b[31m\"]".to_owned(), "can't be printed"),
            ("meta = { \"a\\nb\" = \"1\" }".to_owned(), "can't be printed"),
            ("meta = { a = \"\\u0000\" }".to_owned(), "NUL"),
            (format!("tags = [\"{}\"]", "x".repeat(64 * 1024)), "longer than 64 KiB"),
        ];
        for (words, why) in refused {
            let text = format!("{catalog}\n[[service]]\nname = \"web\"\nport = 80\n{words}");
            let error = load(&text, &[]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

#[test]
fn a_name_that_consuls_dns_does_not_answer_for_is_warned_of() {
    let warnings = |name: &str| {
        let text = format!("backend = \"consul\"\n[[service]]\nname = \"{name}\"\nport = 80");
        load(&text, &[]).unwrap().1
    };
    assert!(warnings("my_app").contains("DNS"));
    assert_eq!(warnings("my-app"), "");
}

#[test]
fn a_service_at_the_port_of_the_telemetry_is_warned_of() {
    let warnings = |port: u16| {
        let text = format!(
            "backend = \"local\"\ndirectory = \"/shared\"\n[[service]]\nname = \"web\"\nport = {port}\n\
             [telemetry]\nlisten = \"0.0.0.0:9090\""
        );
        load(&text, &[]).unwrap().1
    };
    assert!(warnings(9090).contains("web has the port that pilotfish's telemetry listens at"), "{}", warnings(9090));
    assert_eq!(warnings(8080), "");
}
