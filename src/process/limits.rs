//! Resource limits by the names users know (`nofile`, `core`, ...), made ready to be set in a child. It sets none.

use crate::config::Limits;

/// Limits a child sets on itself before its exec.
pub type Prepared = Vec<(&'static str, Resource, libc::rlimit)>;

/// What setrlimit(2) calls a resource; the C libraries disagree on its type.
#[cfg(target_env = "gnu")]
pub type Resource = libc::__rlimit_resource_t;
/// What setrlimit(2) calls a resource; the C libraries disagree on its type.
#[cfg(not(target_env = "gnu"))]
pub type Resource = libc::c_int;

/// Every limit there is, as getrlimit(2) names it, in small letters without `RLIMIT_`.
pub const NAMES: [(&str, Resource); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Makes the configured limits ready; the unknown name is the error.
pub fn prepare(limits: &Limits) -> Result<Prepared, String> {
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    limits
        .rlimits
        .iter()
        .map(|(name, (soft, hard))| {
            let (name, resource) = NAMES.iter().find(|(known, _)| known == name).ok_or_else(|| name.clone())?;
            Ok((*name, *resource, libc::rlimit { rlim_cur: value(*soft), rlim_max: value(*hard) }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_means_unlimited() {
        let limits = Limits { rlimits: [("core".to_owned(), (Some(5), None))].into(), umask: None };
        let prepared = prepare(&limits).unwrap();
        assert_eq!((prepared[0].0, prepared[0].2.rlim_cur, prepared[0].2.rlim_max), ("core", 5, libc::RLIM_INFINITY));
    }

    #[test]
    fn an_unknown_limit_is_refused_by_name() {
        let limits = Limits { rlimits: [("files".to_owned(), (None, None))].into(), umask: None };
        assert_eq!(prepare(&limits).unwrap_err(), "files");
    }
}
