//! Names to addresses without the C library: in a static binary its lookup loads what the image's nsswitch.conf names,
//! which crashes where that was made for another libc. Reads hosts(5) and resolv.conf(5) anew each time, so a change
//! counts at the next question; asks for A and AAAA by UDP, and by TCP when that is truncated. It caches nothing,
//! knows no mDNS and no NIS, and takes no hints from the environment (`LOCALDOMAIN`, `RES_OPTIONS`).

mod exchange;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use simple_dns::Name;
use tokio::time::{sleep, timeout};

use super::race::race;
use exchange::{Addresses, Kind};
use files::{NameServer, ResolvConf};

/// Whatever resolv.conf asks for, no question takes longer: three servers, two attempts, 5 s each, as by default.
const LONGEST: Duration = Duration::from_secs(30);
/// A server has so long before the next one is asked too, whatever resolv.conf's timeout is: who asks gives up after
/// 0.7 to 3 s, and would begin with a dead server each time.
const LEAD: Duration = Duration::from_millis(200);
/// That there is no such name is believed of a server that isn't preferred only when the others have had so much
/// longer: the preferred one may know names that the rest of the world doesn't.
const SECOND_OPINION: Duration = Duration::from_millis(300);
/// Once one family has addresses, the other gets this much longer: servers that never answer AAAA exist.
const OTHER_FAMILY: Duration = Duration::from_millis(500);

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No name can look like this.
    #[error("{0:?} isn't a host name")]
    NoName(String),
    /// The servers know no such name, or it has no address.
    #[error("no such host: {0}")]
    NotFound(String),
    /// No server gave an answer that counts.
    #[error("{host} can't be looked up: {why}")]
    NoAnswer {
        /// The name asked for.
        host: String,
        /// What came of it, with the server.
        why: String,
    },
}

/// A host's addresses, IPv4 first (a container without IPv6 is the usual case; with both, either will do). Never
/// empty.
///
/// # Errors
/// When there is no such name, or nobody to ask.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, ResolveError> {
    Files::system().resolve(host).await
}

/// The same for reqwest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolver;

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let addresses = resolve(name.as_str()).await?;
            // reqwest puts the URL's port in place of 0.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

impl Resolver {
    /// As reqwest wants it.
    pub fn shared() -> Arc<Resolver> {
        Arc::new(Resolver)
    }
}

/// Where names are looked up.
struct Files {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// The servers' port: 53 but in tests.
    port: u16,
}

impl Files {
    fn system() -> Files {
        Files { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), port: 53 }
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let bare = host.strip_suffix('.').unwrap_or(host);
        let found = files::addresses_in(&self.hosts, bare);
        if !found.is_empty() {
            return Ok(sorted(found));
        }
        // RFC 6761 §6.3: never asked of a server, and true where an image has no hosts file.
        if bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let conf = ResolvConf::read(&self.resolv_conf);
        let late = || ResolveError::NoAnswer { host: host.to_owned(), why: format!("it takes over {LONGEST:?}") };
        timeout(LONGEST, self.ask_servers(host, &conf)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask_servers(&self, host: &str, conf: &ResolvConf) -> Result<Vec<IpAddr>, ResolveError> {
        let mut servers = conf.servers.clone();
        let mut failure = None;
        let mut any = false;
        for candidate in conf.candidates(host) {
            // A search domain can make a name too long; the others are still good.
            let Some(name) = Name::new(&candidate).ok().filter(|_| is_name(&candidate)) else { continue };
            any = true;
            match self.first_answer(&name, &servers, conf).await {
                // The others are dead, perhaps: that costs each lookup its time once, and not each name of a search
                // list.
                Ok((server, addresses)) if addresses.is_empty() => servers.sort_by_key(|other| *other != server),
                Ok((_, addresses)) => return Ok(sorted(addresses)),
                Err(why) => failure = failure.or(Some(why)),
            }
        }
        Err(match failure {
            _ if !any => ResolveError::NoName(host.to_owned()),
            Some(why) => ResolveError::NoAnswer { host: host.to_owned(), why },
            None => ResolveError::NotFound(host.to_owned()),
        })
    }

    /// The first answer that counts, and whose it is: of the servers in this order, as often as the config says.
    async fn first_answer(
        &self,
        name: &Name<'_>,
        servers: &[NameServer],
        conf: &ResolvConf,
    ) -> Result<(NameServer, Vec<IpAddr>), String> {
        let turns = (0..conf.attempts).flat_map(|_| servers.iter().copied());
        let questions = turns.map(|server| async move {
            let found = both_families(name, server.at(self.port), conf).await?;
            if found.is_empty() && server != servers[0] {
                sleep(SECOND_OPINION).await;
            }
            Ok((server, found))
        });
        race(questions.collect(), LEAD).await.map_err(|why| why.unwrap_or_else(|| "no server".to_owned()))
    }
}

/// Empty when there is no such name, or no address for it.
async fn both_families(name: &Name<'_>, server: SocketAddr, conf: &ResolvConf) -> Addresses {
    let v4 = exchange::ask(name, Kind::A, server, conf);
    let v6 = exchange::ask(name, Kind::Aaaa, server, conf);
    tokio::pin!(v4, v6);
    let (one, other) = tokio::select! {
        one = &mut v4 => { let other = rest(&one, v6).await; (one, other) }
        one = &mut v6 => { let other = rest(&one, v4).await; (one, other) }
    };
    match (one, other) {
        (Ok(mut one), Ok(other)) => {
            one.extend(other);
            Ok(one)
        }
        // One family is enough; that a server can't answer for the other is not the name's fault.
        (Ok(found), Err(why)) | (Err(why), Ok(found)) if found.is_empty() => Err(why),
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(why), Err(_)) => Err(why),
    }
}

/// RFC 1035 §2.3.4; whatever its letters are, but for those that only a mistake can have put there.
fn is_name(text: &str) -> bool {
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic());
    text.len() <= 253 && text.split('.').all(label)
}

async fn rest(one: &Addresses, other: impl Future<Output = Addresses>) -> Addresses {
    match one {
        Ok(found) if !found.is_empty() => timeout(OTHER_FAMILY, other).await.unwrap_or(Ok(Vec::new())),
        _ => other.await,
    }
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    addresses.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    // Stable: within a family the order is the server's, who may mean something by it.
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

#[cfg(test)]
mod tests;

/// A file's text, as far as anyone needs it; a file that isn't there is an empty one.
fn text_of(path: &Path) -> String {
    const LARGEST: u64 = 1024 * 1024;
    // What can't be read says nothing, like what isn't there.
    let bytes = crate::files::read(path, LARGEST).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
