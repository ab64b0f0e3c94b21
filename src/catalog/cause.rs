//! Why a connection to a backend failed: the end of a chain of causes, in a library's words, and the setting it points
//! at. What stands before the end ("error sending request", "client error (Connect)") tells a user nothing.

use crate::errors::cut;
use crate::net::tls;

/// The cause at the end of a chain.
#[derive(Debug, thiserror::Error)]
#[error("{text}{hint}")]
pub struct Cause {
    text: String,
    hint: &'static str,
}

impl Cause {
    /// What is at the end of an error's chain.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Cause {
        let mut last = error;
        let mut hint = tls::hint(last);
        while let Some(next) = last.source() {
            last = next;
            hint = hint.or(tls::hint(last));
        }
        Cause { text: cut(last), hint: hint.unwrap_or("") }
    }

    /// Our own words for it.
    pub(super) fn said(text: &str) -> Cause {
        Cause { text: text.to_owned(), hint: "" }
    }

    /// Of a TLS connection without a client's certificate. When that broke it may have been the server's way of asking
    /// for one: TLS 1.3 tells only after the client thinks that all is well, and what it tells may be lost.
    pub(super) fn without_identity(mut self) -> Cause {
        // h2 keeps an alert as words only.
        let words = ["closed", "reset", "broken pipe", "alert: certificaterequired", "alert: badcertificate"];
        let text = self.text.to_lowercase();
        if self.hint.is_empty() && words.iter().any(|word| text.contains(word)) {
            self.hint = "; if the server asks for a certificate, see [catalog] tls.certificate and tls.key";
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_of_a_cause_that_repeats_what_others_sent() {
        let names: Vec<String> = (0..2000).map(|n| format!("DnsName(\"{n}.example\")")).collect();
        let told = Cause::of(&std::io::Error::other(format!("not valid for name: {names:?}"))).to_string();
        assert!(told.starts_with("not valid for name: ") && told.len() < 400, "{}", told.len());
    }

    #[test]
    fn only_a_broken_connection_may_want_a_certificate() {
        let cause = |text: &str| Cause::of(&std::io::Error::other(text.to_owned())).without_identity().to_string();
        assert!(cause("Connection reset by peer").contains("tls.certificate"));
        assert_eq!(cause("Connection refused"), "Connection refused");
    }
}
