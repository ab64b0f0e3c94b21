//! `pilotfish probe URL`: one health question, asked by this process. It knows no agent and no config.

use std::path::PathBuf;
use std::time::Duration;

use super::ask;
use crate::config::{Probe, Trust};
use crate::exit_codes::{BAD_USAGE, BROKEN, FAILED};
use crate::{logging, plain, probe};

/// As long as Docker's own HEALTHCHECK waits would be long for a server beside us.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked, and what is a good answer.
#[derive(Debug, clap::Args)]
pub struct Question {
    /// http://HOST[:PORT]/PATH, https://..., tcp://HOST:PORT, or grpc://HOST:PORT[/SERVICE], grpcs://...
    #[arg(value_name = "URL")]
    url: String,
    /// How long it may take, from the name's resolution to the last byte [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = ask::lasting)]
    timeout: Option<Duration>,
    /// Take any certificate (https, grpcs)
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Certificate authorities in PEM [default: SSL_CERT_FILE, else the system's] (https, grpcs)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A status that is good, or several with commas [default: 200 to 399]; anything else is looked for in the body
    #[arg(long, value_name = "STATUS|TEXT")]
    expect: Vec<String>,
}

/// Asks.
pub fn ask(question: Question) -> u8 {
    let (url, timeout) = (question.url.clone(), question.timeout.unwrap_or(PATIENCE));
    let wanted = match wanted(question) {
        Ok(wanted) => wanted,
        Err(error) => {
            say(&format!("error: {error}"));
            return BAD_USAGE;
        }
    };
    // A health check may run as often as every second: one thread, and nothing that isn't needed.
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: can't ask: {error}"));
            return BROKEN;
        }
    };
    let answer = runtime.block_on(probe::probe(&wanted, timeout));
    // A thread stuck on dead storage must not hold the check.
    runtime.shutdown_background();
    match answer {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("{url}: {error}"));
            FAILED
        }
    }
}

fn wanted(question: Question) -> Result<Probe, String> {
    let Question { url, insecure, ca, expect, timeout: _ } = question;
    let tls = insecure || ca.is_some();
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.trim_end_matches('/'))) {
        Some(("tcp" | "http" | "grpc", _)) if tls => Err("--insecure and --ca are for https and grpcs".to_owned()),
        Some(("tcp" | "grpc" | "grpcs", _)) if !expect.is_empty() => Err("--expect is for http and https".to_owned()),
        Some(("tcp", address)) => Probe::tcp(address),
        Some(("grpc" | "grpcs", _)) => {
            let Probe::Grpc(mut asked) = Probe::grpc(&url)? else { return Err("this isn't a URL".to_owned()) };
            asked.tls = asked.tls.map(|_| Trust { ca, insecure });
            Ok(Probe::Grpc(asked))
        }
        Some(("http" | "https", _)) => {
            let Probe::Http(mut asked) = Probe::http(&url)? else { return Err("this isn't a URL".to_owned()) };
            (asked.insecure, asked.ca) = (insecure, ca);
            for expected in expect {
                match statuses(&expected) {
                    Some(statuses) => asked.expect_status.extend(statuses?),
                    None if expected.is_empty() || asked.expect_body.is_some() => {
                        return Err("--expect takes statuses, and one text".to_owned());
                    }
                    None => asked.expect_body = Some(expected),
                }
            }
            Ok(Probe::Http(asked))
        }
        _ => Err(format!("`{url}` isn't an http://, https://, tcp://, grpc:// or grpcs:// URL")),
    }
}

/// The statuses a text lists, if it is a list of numbers.
fn statuses(text: &str) -> Option<Result<Vec<u16>, String>> {
    let numbers: Option<Vec<u16>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let wrong = |numbers: &Vec<u16>| numbers.iter().copied().find(|status| !(100..=599).contains(status));
    numbers.map(|numbers| match wrong(&numbers) {
        Some(status) => Err(format!("{status} isn't an HTTP status: they go from 100 to 599")),
        None => Ok(numbers),
    })
}

fn say(text: &str) {
    logging::last_words(&format!("{}\n", plain::line(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(url: &str, expect: &[&str]) -> Question {
        let expect = expect.iter().map(|text| (*text).to_owned()).collect();
        Question { url: url.to_owned(), timeout: None, insecure: false, ca: None, expect }
    }

    #[test]
    fn numbers_are_statuses_and_the_rest_is_looked_for_in_the_body() {
        let Ok(Probe::Http(asked)) = wanted(question("http://a/x", &["200,204", "301", "up"])) else { panic!() };
        assert_eq!(asked.expect_status, [200, 204, 301]);
        assert_eq!(asked.expect_body.as_deref(), Some("up"));
        let tcp = wanted(question("tcp://[::1]:80/", &[])).unwrap();
        assert_eq!(tcp, Probe::Tcp { address: "[::1]:80".to_owned() });
    }

    #[test]
    fn what_cant_be_asked_is_refused() {
        for (url, expect) in [
            ("localhost", &[][..]),
            ("ftp://a", &[]),
            ("grpc://a", &[]),
            ("grpc://a:1/x", &["200"]),
            ("http://", &[]),
            ("http://me:secret@a/", &[]),
            ("tcp://a", &[]),
            ("tcp://a:1", &["200"]),
            ("http://a", &["600"]),
            ("http://a", &["x", "y"]),
            ("http://a", &[""]),
        ] {
            assert!(wanted(question(url, expect)).is_err(), "{url} {expect:?}");
        }
        assert!(wanted(Question { insecure: true, ..question("http://a", &[]) }).is_err());
        assert!(wanted(Question { insecure: true, ..question("grpc://a:1", &[]) }).is_err());
        assert!(wanted(Question { insecure: true, ..question("https://a", &[]) }).is_ok());
        assert!(wanted(Question { insecure: true, ..question("grpcs://a:1/x", &[]) }).is_ok());
    }
}
