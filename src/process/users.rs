//! Who a process runs as: `/etc/passwd` and `/etc/group`, read by ourselves because a static glibc binary must never
//! call getpwnam (it loads foreign libraries). It switches no user; that is the child's own first work.
//!
//! The meaning is Docker's, but that a number is never a name: either, with or without `:group`. With a group, that one is
//! the only one; without, the user's own from passwd and the supplementary ones from group. A numeric user needs no entry, and
//! keeps the agent's own group then. From a file that others may write nothing is taken but what needs no file: numbers, and
//! root.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::ids::{NOBODYS, number};
use crate::files;

/// Larger files than this are no user databases.
const MOST: u64 = 16 * 1024 * 1024;

/// Whom a child becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id; `None` keeps the agent's own.
    pub gid: Option<u32>,
    /// Supplementary groups, without the primary one.
    pub groups: Vec<u32>,
    /// Name, when there is an entry in passwd.
    pub name: Option<String>,
    /// Home directory: the entry's, `/` without one.
    pub home: String,
}

/// Why a user can't be told from its name.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No entry, and not a number.
    #[error("no user is called `{0}` in /etc/passwd")]
    UnknownUser(String),
    /// No entry, and not a number.
    #[error("no group is called `{0}` in /etc/group")]
    UnknownGroup(String),
    /// setresuid(2) and setresgid(2) would leave the agent's own.
    #[error("{what} has the number {NOBODYS}, which the kernel takes for \"leave it as it is\"")]
    Nobodys {
        /// Whose number it is.
        what: String,
    },
    /// It would come from a file that perhaps isn't root's.
    #[error("{what} isn't taken from {file}, which {whose}: write numbers, as in \"1000:1000\"")]
    Doubtful {
        /// A user, or a group.
        what: String,
        /// Which file.
        file: &'static str,
        /// Who may have written it.
        whose: String,
    },
    /// A file is there but can't be read.
    #[error("{file} can't be read")]
    Unreadable {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Looks a `user` setting up in the files of this root. They are read each time: an image may change them.
///
/// # Errors
/// An unknown name, or a file that is there but can't be read. A missing file is an empty one.
pub fn look_up(spec: &str) -> Result<Identity, UserError> {
    look(spec).map(|(identity, _)| identity)
}

/// The same, and what it was denied, if anything.
fn look(spec: &str) -> Result<(Identity, Option<String>), UserError> {
    let group_needed = spec.split_once(':').is_none_or(|(_, group)| number(group).is_none());
    let passwd = UserFile::read(PASSWD)?;
    let group = if group_needed { UserFile::read(GROUP)? } else { UserFile::default() };
    find_believed(spec, &passwd, &group)
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// What is known of root without a file.
const ROOT: &str = "root:x:0:0:root:/root:/bin/sh";
const ROOTS_GROUP: &str = "root:x:0:";

/// A numeric user without an entry, for one, keeps the agent's own group, which is root's as a rule: what that group may
/// write is then in their hands too. Said of all whom the config names before they run: another life of the container may
/// have left something.
pub fn mind_groups<'u>(specs: impl IntoIterator<Item = &'u str>) {
    for (identity, denied) in specs.into_iter().filter_map(|spec| look(spec).ok()) {
        if let Some(what) = denied {
            tracing::warn!(event = "degraded", "{what}");
        }
        identity.mind_groups();
    }
}

impl Identity {
    /// The same of one user.
    pub fn mind_groups(&self) {
        let (own_user, own_group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let groups = || self.groups.iter().copied().chain([self.gid.unwrap_or(own_group)]);
        if [0, own_user].contains(&self.uid) {
            return;
        }
        if groups().any(|group| [0, own_group].contains(&group)) {
            files::share_own_group();
        }
        // Perhaps that of another user's own.
        if groups().any(|group| group != self.uid) {
            files::share_private_groups();
        }
    }
}

/// What a file of users or groups holds, and who but root may have written it.
#[derive(Debug, Default)]
struct UserFile {
    text: String,
    whose: Option<String>,
    /// Its group may write it, in images made for OpenShift (`chmod g=u /etc/passwd`). Whether somebody here is in that
    /// is known of those whom the config names; for who would be root by it that isn't enough.
    by_group: Option<String>,
}

impl UserFile {
    fn read(file: &'static str) -> Result<UserFile, UserError> {
        let by_mode = |bits: u32| {
            let mode = std::fs::metadata(file).ok()?.permissions().mode();
            (mode & bits != 0).then(|| format!("others may write (mode {:04o})", mode & 0o7777))
        };
        match files::read_hosts_and_see_whose(Path::new(file), MOST) {
            Ok((bytes, whose)) => {
                let whose = whose.map(|whose| format!("isn't root's alone: {whose}")).or_else(|| by_mode(0o002));
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Ok(UserFile { text, whose, by_group: by_mode(0o020) })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(UserFile::default()),
            Err(source) => Err(UserError::Unreadable { file, source }),
        }
    }

    /// All of it, or what is known without it.
    fn believed<'a>(&'a self, without: &'a str) -> &'a str {
        if self.whose.is_some() { without } else { &self.text }
    }
}

/// Whoever writes these files would be whom they like, in any group, have another's hook run as themselves, and give root a
/// home with files that its shell runs. Also the group of a user without one: the agent's own instead, root's as a rule, is
/// more than any entry gives.
fn find_believed(spec: &str, passwd: &UserFile, group: &UserFile) -> Result<(Identity, Option<String>), UserError> {
    let doubtful = |what: String, file, whose: &str| UserError::Doubtful { what, file, whose: whose.to_owned() };
    let found = find(spec, passwd.believed(ROOT), group.believed(ROOTS_GROUP)).map_err(|error| {
        match (&error, &passwd.whose, &group.whose) {
            (UserError::UnknownUser(user), Some(whose), _) => doubtful(format!("user `{user}`"), PASSWD, whose),
            (UserError::UnknownGroup(group), _, Some(whose)) => doubtful(format!("group `{group}`"), GROUP, whose),
            _ => error,
        }
    })?;
    let is_root = found.uid == 0 && !["root", "0"].contains(&spec.split(':').next().unwrap_or(spec));
    if let Some(whose) = passwd.by_group.as_ref().filter(|_| is_root) {
        return Err(doubtful(format!("user `{spec}`, who would be root,"), PASSWD, whose));
    }
    match (&passwd.whose, &group.whose) {
        (Some(whose), _) if found.gid.is_none() => Err(doubtful(format!("the group of user `{spec}`"), PASSWD, whose)),
        (None, Some(whose)) if find(spec, &passwd.text, &group.text).is_ok_and(|all| all.groups != found.groups) => {
            let denied = format!(
                "user `{spec}` is in no supplementary group: {GROUP}, by which it would be, {whose}; write its one group, as \
                 in \"1000:1000\""
            );
            Ok((found, Some(denied)))
        }
        _ => Ok((found, None)),
    }
}

/// A line of passwd(5).
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn entries(passwd: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    passwd.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let (_comment, home) = (fields.next()?, fields.next()?);
        Some(PasswdEntry { name, uid, gid, home })
    })
}

fn find(spec: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, "")) => (user, None),
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let as_number = number(user);
    // Docker tries names first. A number is that user's whoever is called so: whoever may write passwd would be anybody.
    let entry = entries(passwd).find(|entry| as_number.map_or(entry.name == user, |number| number == entry.uid));
    let uid = match (&entry, as_number) {
        (_, Some(number)) => number,
        (Some(entry), None) => entry.uid,
        (None, None) => return Err(UserError::UnknownUser(user.to_owned())),
    };
    let gid = match wanted_group {
        Some(wanted) => Some(find_group(wanted, group)?),
        None => entry.as_ref().map(|entry| entry.gid),
    };
    let groups = match (&entry, wanted_group) {
        (Some(entry), None) => supplementary(entry.name, gid, group),
        _ => Vec::new(),
    };
    if uid == NOBODYS {
        return Err(UserError::Nobodys { what: format!("user `{user}`") });
    }
    if gid.into_iter().chain(groups.iter().copied()).any(|gid| gid == NOBODYS) {
        return Err(UserError::Nobodys { what: format!("a group of user `{user}`") });
    }
    Ok(Identity {
        uid,
        gid,
        groups,
        name: entry.as_ref().map(|entry| entry.name.to_owned()),
        home: entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned(),
    })
}

/// Name, number and members of each line of group(5).
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, gid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, UserError> {
    groups(group)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, gid, _)| gid)
        .or_else(|| number(wanted))
        .ok_or_else(|| UserError::UnknownGroup(wanted.to_owned()))
}

fn supplementary(user: &str, primary: Option<u32>, group: &str) -> Vec<u32> {
    let mut found: Vec<u32> = groups(group)
        .filter(|(_, gid, members)| Some(*gid) != primary && members.split(',').any(|m| m.trim() == user))
        .map(|(_, gid, _)| gid)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# a comment\nbroken line\nmysql:x:106:113:MySQL,,,:/var/lib/mysql:/bin/false\n1000:x:5:5::/home/digits:\nnohome:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nmysql:x:113:\nadm:x:4:syslog,mysql\nssl:x:120:mysql\nempty:x:9:\nadm2:x:4:mysql\n";

    #[test]
    fn a_name_brings_its_group_and_its_supplementary_groups() {
        let mysql = find("mysql", PASSWD, GROUP).unwrap();
        assert_eq!((mysql.uid, mysql.gid, mysql.groups), (106, Some(113), vec![4, 120]));
        assert_eq!((mysql.name.as_deref(), &*mysql.home), (Some("mysql"), "/var/lib/mysql"));
    }

    #[test]
    fn a_number_with_an_entry_is_that_user() {
        assert_eq!(find("106", PASSWD, GROUP).unwrap(), find("mysql", PASSWD, GROUP).unwrap());
    }

    #[test]
    fn a_number_needs_no_entry() {
        let stranger = find("4242", "", "").unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.groups.len(), &*stranger.home), (4242, None, 0, "/"));
        assert_eq!(find("4242:99", "", "").unwrap().gid, Some(99));
    }

    #[test]
    fn an_explicit_group_is_the_only_one() {
        let mysql = find("mysql:ssl", PASSWD, GROUP).unwrap();
        assert_eq!((mysql.gid, mysql.groups.len()), (Some(120), 0));
    }

    #[test]
    fn a_number_is_a_number_whoever_is_called_so() {
        let identity = find("1000", PASSWD, GROUP).unwrap();
        assert_eq!((identity.uid, identity.gid, identity.name), (1000, None, None));
    }

    #[test]
    fn of_a_file_that_others_may_write_nothing_is_believed_and_it_is_said() {
        let ours = |text: &str| UserFile { text: text.to_owned(), ..UserFile::default() };
        let theirs = |text: &str| UserFile { whose: Some("others may write (mode 0666)".to_owned()), ..ours(text) };
        let evil = PASSWD.replace("root:x:0:0:root:/root", "root:x:0:120:root:/tmp/evil");
        let (passwd, group) = (theirs(&evil), ours(GROUP));
        for spec in ["mysql", "mysql:113", "nohome:", "106", "1000", "106:"] {
            let error = find_believed(spec, &passwd, &group).unwrap_err();
            assert!(matches!(error, UserError::Doubtful { file: super::PASSWD, .. }), "{spec}: {error:?}");
            assert!(error.to_string().contains("others may write (mode 0666): write numbers"), "{error}");
        }
        let (mysql, denied) = find_believed("106:113", &passwd, &group).unwrap();
        assert_eq!((mysql.uid, mysql.gid, mysql.groups.len(), denied), (106, Some(113), 0, None));
        assert_eq!((mysql.name, &*mysql.home), (None, "/"), "and no home of anybody's choice");
        for spec in ["root", "0", "root:root", "0:0"] {
            let (root, _) = find_believed(spec, &passwd, &group).unwrap();
            assert_eq!((root.uid, root.gid, root.groups.len(), &*root.home), (0, Some(0), 0, "/root"), "{spec}");
        }

        let (passwd, group) = (ours(PASSWD), theirs(GROUP));
        let (mysql, denied) = find_believed("mysql", &passwd, &group).unwrap();
        assert_eq!((mysql.gid, mysql.groups.len(), &*mysql.home), (Some(113), 0, "/var/lib/mysql"));
        assert!(denied.unwrap().starts_with("user `mysql` is in no supplementary group: /etc/group"));
        let refused = find_believed("mysql:ssl", &passwd, &group);
        assert!(matches!(refused, Err(UserError::Doubtful { file: super::GROUP, .. })), "{refused:?}");
        assert_eq!(find_believed("mysql:root", &passwd, &group).unwrap().0.gid, Some(0));
        // Whom it gives nothing, nothing is said of.
        assert_eq!(find_believed("nohome", &passwd, &group).unwrap().1, None);

        // Where root's group may write, as in many images, only who would be root isn't believed.
        let shared = UserFile { by_group: Some("others may write (mode 0664)".to_owned()), ..ours(PASSWD) };
        assert_eq!(find_believed("mysql", &shared, &ours(GROUP)).unwrap().0, find("mysql", PASSWD, GROUP).unwrap());
        let toor = UserFile { text: format!("{PASSWD}toor:x:0:0::/tmp:/bin/sh\n"), ..shared };
        assert!(matches!(find_believed("toor", &toor, &ours(GROUP)), Err(UserError::Doubtful { .. })));

        let (mysql, denied) = find_believed("mysql", &passwd, &ours(GROUP)).unwrap();
        assert_eq!((mysql, denied), (find("mysql", PASSWD, GROUP).unwrap(), None));
        assert!(matches!(find_believed("nobody", &passwd, &group), Err(UserError::UnknownUser(_))));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(matches!(find("nobody", PASSWD, GROUP), Err(UserError::UnknownUser(_))));
        assert!(matches!(find("mysql:wheel", PASSWD, GROUP), Err(UserError::UnknownGroup(_))));
        assert!(matches!(find("-1", PASSWD, GROUP), Err(UserError::UnknownUser(_))));
        assert!(matches!(find("4294967296", PASSWD, GROUP), Err(UserError::UnknownUser(_))));
    }

    #[test]
    fn what_would_leave_the_agents_own_user_is_nobody_wherever_it_comes_from() {
        let passwd = "evil:x:4294967295:5::/:\neve:x:5:4294967295::/:\nann:x:6:6::/:\n";
        let group = "odd:x:4294967295:ann\n";
        for spec in ["4294967295", "4294967295:5", "evil", "5:4294967295", "eve", "5", "6:odd", "ann"] {
            let found = find(spec, passwd, group);
            assert!(matches!(found, Err(UserError::Nobodys { .. })), "{spec}: {found:?}");
        }
        for spec in ["+5", "05", "", " 5", "5 ", ":5"] {
            assert!(matches!(find(spec, "", ""), Err(UserError::UnknownUser(_))), "{spec}");
        }
        for spec in ["5:+5", "5:05", "5: 5"] {
            assert!(matches!(find(spec, "", ""), Err(UserError::UnknownGroup(_))), "{spec}");
        }
        assert_eq!(find("+5", "+5:x:9:9::/:\n", "").unwrap().uid, 9, "a name is a name");
    }

    #[test]
    fn an_entry_without_a_home_lives_in_the_root() {
        assert_eq!(find("nohome", PASSWD, GROUP).unwrap().home, "/");
    }
}
