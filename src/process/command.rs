//! From what the user wrote to a [`Launch`](super::child::Launch): whom a command runs as, with what environment, from
//! which file; and from a failure to a sentence that names command, step and reason. It starts nothing.

use std::ffi::{CString, OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::AccessFlags;

use crate::config::{Exec, Limits};
use crate::errors;
use crate::exit_codes::{CANT_RUN, NOT_FOUND};
use crate::files;
use crate::supervisor::vocabulary::{Hope, SpawnError};

use super::child::{Ids, LaunchStep, exit_code};
use super::environment::Environment;
use super::launch::Failure;
use super::limits;
use super::users::{self, Identity, UserError};

/// A file of `env_from_files` holds at most this many bytes; the kernel takes no string above 128 KiB anyway.
const MOST_OF_A_FILE: u64 = 1024 * 1024;
/// What execvp(3) uses when there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command made ready: everything of a [`Launch`](super::child::Launch) that doesn't depend on who runs it.
pub struct Command {
    /// Its arguments, the program's name first.
    pub argv: Vec<CString>,
    /// What to execute, in this order.
    pub candidates: Vec<CString>,
    /// Its environment.
    pub environment: Environment,
    /// Whom it becomes.
    pub identity: Option<Ids>,
    /// It is to have no capability: a user was asked for, and it isn't root.
    pub without_capabilities: bool,
    /// Its resource limits.
    pub limits: limits::Prepared,
    /// Its file mode creation mask.
    pub umask: Option<libc::mode_t>,
}

/// The 126 of a command that can't be made ready.
fn refused(exec: &Exec, why: impl std::fmt::Display) -> SpawnError {
    SpawnError { code: CANT_RUN, message: format!("can't run {}: {why}", name(exec)), hope: Hope::None }
}

/// What of errno(3) says that it may be otherwise in a moment.
fn hope(errno: Errno) -> Hope {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE => Hope::IfItWasThere,
        Errno::ETXTBSY | Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE => Hope::Soon,
        _ => Hope::None,
    }
}

fn hope_of(error: &std::io::Error) -> Hope {
    error.raw_os_error().map_or(Hope::None, |number| hope(Errno::from_raw(number)))
}

fn name(exec: &Exec) -> String {
    exec.first().map_or_else(|| "an empty command".to_owned(), |program| format!("`{}`", program.display()))
}

/// Makes a command ready to run as `user` within `limits`.
///
/// HOME becomes the user's own, as in Docker, unless `fixed_home` says that it was configured; USER and LOGNAME are
/// corrected where they are set, and left unset otherwise. `secrets` are the agent's own: another user gets only those
/// that were configured.
///
/// # Errors
/// Always code 126: an unknown user or limit, a NUL byte.
pub fn prepare(
    exec: &Exec,
    user: Option<&str>,
    limits: &Limits,
    mut environment: Environment,
    secrets: &[&str],
    configured: impl Fn(&str) -> bool,
) -> Result<Command, SpawnError> {
    let refused = |why: String| refused(exec, why);
    let program = exec.first().map(OsString::as_os_str).unwrap_or_default();
    if program.is_empty() {
        let message = "can't run a command whose name is empty (an empty CMD or `command:`?)".to_owned();
        return Err(SpawnError { code: NOT_FOUND, message, hope: Hope::None });
    }
    let argv: Vec<CString> = exec
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| refused("an argument holds a NUL byte".to_owned()))?;
    let identity = match user {
        Some(user) => Some(users::look_up(user).map_err(|error| {
            let hope = match &error {
                UserError::Unreadable { source, .. } => hope_of(source),
                _ => Hope::None,
            };
            SpawnError { hope, ..refused(errors::chain(&error)) }
        })?),
        None => None,
    };
    if let Some(identity) = &identity {
        identity.mind_groups();
        withhold(secrets, identity, &mut environment, &configured);
        introduce(identity, &mut environment, configured).map_err(|error| refused(error.to_string()))?;
    }
    Ok(Command {
        candidates: candidates(program, environment.get("PATH")),
        argv,
        environment,
        without_capabilities: identity.as_ref().is_some_and(|identity| identity.uid != 0),
        identity: identity.and_then(switch),
        limits: limits::prepare(limits).map_err(|name| refused(format!("no limit is called `{name}`")))?,
        umask: limits.umask,
    })
}

/// Takes from another user what the agent alone is to know. It isn't found elsewhere: /proc shows the agent's environment
/// to its own user only.
fn withhold(secrets: &[&str], identity: &Identity, environment: &mut Environment, configured: impl Fn(&str) -> bool) {
    if identity.uid != nix::unistd::getuid().as_raw() {
        secrets.iter().filter(|name| !configured(name)).for_each(|name| environment.remove(name));
    }
}

fn introduce(
    identity: &Identity,
    environment: &mut Environment,
    configured: impl Fn(&str) -> bool,
) -> Result<(), super::environment::BadValue> {
    if !configured("HOME") {
        environment.set("HOME", identity.home.as_bytes())?;
    }
    for name in ["USER", "LOGNAME"] {
        if environment.get(name).is_some() && !configured(name) {
            match &identity.name {
                Some(user) => environment.set(name, user.as_bytes())?,
                None => environment.remove(name),
            }
        }
    }
    Ok(())
}

/// The switch to make; `None` when the agent already is exactly that, which it may well be without any right to
/// switch.
fn switch(identity: Identity) -> Option<Ids> {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let ids = Ids { uid: identity.uid, gid: identity.gid.unwrap_or(gid), groups: identity.groups };
    let unprivileged = uid != 0 && nix::unistd::geteuid().as_raw() == uid;
    (!(unprivileged && (ids.uid, ids.gid) == (uid, gid))).then_some(ids)
}

/// What execvp(3) would try for this program, in order: itself if it has a slash, else below each part of PATH, of
/// which an empty one is the working directory.
fn candidates(program: &OsStr, path: Option<&OsStr>) -> Vec<CString> {
    let program = program.as_bytes();
    let in_directory = |directory: &[u8]| match directory {
        b"" => program.to_vec(),
        directory => [directory, b"/", program].concat(),
    };
    let files = match program {
        b"" => Vec::new(),
        program if program.contains(&b'/') => vec![program.to_vec()],
        _ => path
            .map_or(DEFAULT_PATH.as_bytes(), OsStrExt::as_bytes)
            .split(|byte| *byte == b':')
            .map(in_directory)
            .collect(),
    };
    files.into_iter().filter_map(|file| CString::new(file).ok()).collect()
}

/// Why a program couldn't be run here, by the `PATH` set for it or by this process's own; one that lies in another
/// directory than can be known may be anywhere.
pub fn survey(exec: &Exec, path: Option<&OsStr>) -> Option<String> {
    let program = exec.first()?;
    let bytes = program.as_bytes();
    if bytes.contains(&b'/') && !bytes.starts_with(b"/") {
        return None;
    }
    let own = std::env::var_os("PATH");
    let candidates = candidates(program, path.or(own.as_deref()));
    let allowed = |file: &CString| match nix::unistd::access(file.as_c_str(), AccessFlags::X_OK) {
        // Whoever may enter it can't run it.
        Ok(()) if Path::new(OsStr::from_bytes(file.to_bytes())).is_dir() => Err(Errno::EACCES),
        allowed => allowed,
    };
    if let Some(found) = candidates.iter().find(|file| allowed(file).is_ok()) {
        let script = interpreter(found).filter(|interpreter| !Path::new(interpreter).exists());
        return script.map(|_| not_executed(exec, Errno::ENOENT, std::slice::from_ref(found)).message);
    }
    let errors: Vec<Errno> = candidates.iter().map(allowed).filter_map(Result::err).collect();
    // Whoever asks needn't have the right that the agent will have.
    let hidden = errors.contains(&Errno::EACCES) && !nix::unistd::geteuid().is_root();
    if hidden {
        return None;
    }
    let errno = if errors.contains(&Errno::EACCES) { Errno::EACCES } else { Errno::ENOENT };
    Some(not_executed(exec, errno, &candidates).message)
}

/// What `env_from_files` names: the file's content without one newline at its end.
///
/// # Errors
/// Code 126: the file can't be read, is none, or is too large. The message never holds any of its content.
pub fn read_value(exec: &Exec, variable: &str, file: &Path) -> Result<Vec<u8>, SpawnError> {
    let refused = |why: String| refused(exec, format!("{variable} from {}: {why}", file.display()));
    let unread = |error: std::io::Error| SpawnError { hope: hope_of(&error), ..refused(error.to_string()) };
    let mut value = files::read(file, MOST_OF_A_FILE).map_err(unread)?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}

/// The error of a command for which no process could be made.
pub fn no_process(exec: &Exec, error: &std::io::Error) -> SpawnError {
    let hint = match error.raw_os_error() {
        Some(libc::EAGAIN) => " (the container's limit of processes?)",
        Some(libc::EMFILE) => " (the limit of open files)",
        _ => "",
    };
    SpawnError { hope: hope_of(error), ..refused(exec, format!("{error}{hint}")) }
}

/// The error of a variable that can't be set.
pub fn bad_variable(exec: &Exec, error: &super::environment::BadValue) -> SpawnError {
    refused(exec, error)
}

/// The error of a child that said how it failed.
pub fn failed(exec: &Exec, failure: Failure, about: &About<'_>) -> SpawnError {
    let why = failure.errno.desc();
    let message = match failure.step {
        LaunchStep::Exec => return not_executed(exec, failure.errno, about.candidates),
        LaunchStep::Group => format!("making its process group: {why}"),
        LaunchStep::Descriptors => format!("giving it its standard descriptors: {why}"),
        LaunchStep::Limit => format!("setting the limit `{}`: {why}", about.limits.get(failure.index).unwrap_or(&"?")),
        LaunchStep::Directory => {
            let by = about.user.map(|user| format!(" as user `{user}`")).unwrap_or_default();
            format!("changing to its directory {}{by}: {why}", about.directory.display())
        }
        LaunchStep::NoNewPrivileges => format!("giving up new privileges: {why}"),
        LaunchStep::Groups | LaunchStep::Gid | LaunchStep::Uid => {
            let call = match failure.step {
                LaunchStep::Groups => "setgroups",
                LaunchStep::Gid => "setgid",
                _ => "setuid",
            };
            format!("becoming user `{}` ({call}): {why}", about.user.unwrap_or_default())
        }
        LaunchStep::Capabilities => format!("taking its capabilities: {why}"),
        LaunchStep::DeathSignal => format!("tying its life to the agent's: {why}"),
        LaunchStep::Deadline => "the leader's time was over before it could be".to_owned(),
    };
    SpawnError { hope: hope(failure.errno), ..refused(exec, message) }
}

/// What a failure's message may need to name.
pub struct About<'a> {
    /// What was tried to be executed.
    pub candidates: &'a [CString],
    /// Names of the limits, in order.
    pub limits: &'a [&'static str],
    /// The working directory asked for.
    pub directory: &'a Path,
    /// The user asked for.
    pub user: Option<&'a str>,
}

fn not_executed(exec: &Exec, errno: Errno, candidates: &[CString]) -> SpawnError {
    let name = name(exec);
    let code = exit_code(LaunchStep::Exec, errno);
    let has_slash = exec.first().is_some_and(|program| program.as_bytes().contains(&b'/'));
    let message = match errno {
        Errno::ENOENT | Errno::ENOTDIR => match candidates.iter().find_map(broken_loader) {
            Some(hint) => format!("can't run {name}: {hint}"),
            None if has_slash => format!("can't run {name}: no such file{}", in_words(exec)),
            None => format!("can't run {name}: not found in PATH{}", in_words(exec)),
        },
        Errno::EACCES => format!("can't run {name}: permission denied (is it executable?)"),
        Errno::ENOEXEC => format!("can't run {name}: {}", candidates.iter().find_map(foreign).unwrap_or(NO_PROGRAM)),
        errno => format!("can't run {name}: {}", errno.desc()),
    };
    SpawnError { code, message, hope: hope(errno) }
}

/// What a command that stands in one word is in several.
fn in_words(exec: &Exec) -> String {
    let [line] = exec.as_slice() else { return String::new() };
    let words: Vec<_> = line.to_string_lossy().split_whitespace().map(str::to_owned).collect();
    match words.len() {
        0 | 1 => String::new(),
        _ => format!(" (each argument is a word of its own: {words:?})"),
    }
}

/// Why a file that exists is "not found": what it needs to run is what is missing.
fn broken_loader(file: &CString) -> Option<String> {
    if let Some(interpreter) = interpreter(file) {
        return Some(match interpreter.as_bytes().ends_with(b"\r") {
            true => format!("its interpreter {interpreter:?} doesn't exist (the script has Windows line ends)"),
            false => format!("its interpreter {} doesn't exist", interpreter.display()),
        });
    }
    start_of(file)?
        .starts_with(b"\x7fELF")
        .then(|| "its dynamic loader doesn't exist (built for another C library?)".to_owned())
}

/// What the kernel runs a script by.
fn interpreter(file: &CString) -> Option<OsString> {
    let start = start_of(file)?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let interpreter = line.trim_ascii_start().split(|byte| *byte == b' ' || *byte == b'\t').next()?;
    Some(OsString::from_vec(interpreter.to_vec()))
}

/// As much of a file as the kernel looks at.
fn start_of(file: &CString) -> Option<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(file.to_bytes()));
    let mut start = vec![0u8; 256];
    let count = files::open(path).ok()?.read(&mut start).ok()?;
    start.truncate(count);
    Some(start)
}

const NO_PROGRAM: &str = "not a program for this kernel (built for another architecture?)";

/// What the first of the files that is there isn't for this kernel.
fn foreign(file: &CString) -> Option<&'static str> {
    Some(match start_of(file)?.starts_with(b"#!") {
        true => "its interpreter isn't a program for this kernel (built for another architecture?)",
        false => NO_PROGRAM,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(program: &str, path: Option<&str>) -> Vec<String> {
        let found = candidates(OsStr::new(program), path.map(OsStr::new));
        found.into_iter().map(|file| file.into_string().unwrap()).collect()
    }

    #[test]
    fn a_program_with_a_slash_is_looked_up_nowhere() {
        assert_eq!(files("./x", Some("/a:/b")), ["./x"]);
    }

    #[test]
    fn path_is_searched_as_execvp_does() {
        assert_eq!(files("x", Some("/a::/b")), ["/a/x", "x", "/b/x"]);
        assert_eq!(files("x", Some("")), ["x"]);
        assert_eq!(files("x", None), ["/bin/x", "/usr/bin/x"]);
        assert_eq!(files("", Some("/a")), [] as [&str; 0]);
    }

    #[test]
    fn a_script_without_its_interpreter_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "#! /no/such/shell -e\necho").unwrap();
        let exec = vec![script.clone().into_os_string()];
        let file = CString::new(script.as_os_str().as_bytes()).unwrap();
        let error = not_executed(&exec, Errno::ENOENT, std::slice::from_ref(&file));
        assert_eq!(error.code, 127);
        assert!(error.message.ends_with("its interpreter /no/such/shell doesn't exist"), "{}", error.message);

        std::fs::write(&script, "#!/bin/sh\r\necho").unwrap();
        let error = not_executed(&exec, Errno::ENOENT, &[file]);
        assert!(error.message.contains("Windows line ends"), "{}", error.message);
    }

    #[test]
    fn only_a_missing_program_is_127() {
        let exec = vec![OsString::from("x")];
        assert_eq!(not_executed(&exec, Errno::ENOENT, &[]).message, "can't run `x`: not found in PATH");
        assert_eq!(not_executed(&exec, Errno::EACCES, &[]).code, 126);
        assert_eq!(not_executed(&exec, Errno::ENOEXEC, &[]).code, 126);
    }

    #[test]
    fn one_trailing_newline_of_a_secret_is_not_its_part() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let exec = vec![OsString::from("x")];
        std::fs::write(&file, "s3cret\n\n").unwrap();
        assert_eq!(read_value(&exec, "PASSWORD", &file).unwrap(), b"s3cret\n");
        std::fs::write(&file, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(read_value(&exec, "PASSWORD", &file).unwrap_err().code, 126);
    }

    #[test]
    fn a_fifo_in_place_of_a_secret_holds_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read_value(&vec![OsString::from("x")], "PASSWORD", &fifo).unwrap_err();
        assert!(error.message.ends_with("isn't a plain file"), "{}", error.message);
    }

    #[test]
    fn another_user_gets_no_secret_of_the_agents_but_those_that_were_configured() {
        let another = |uid| Identity { uid, gid: None, groups: vec![], name: None, home: "/".to_owned() };
        let own = nix::unistd::getuid().as_raw();
        let after = |uid, configured: bool| {
            let mut env = Environment::own();
            env.set("TOKEN", b"s3cret").unwrap();
            env.set("OTHER", b"x").unwrap();
            withhold(&["TOKEN"], &another(uid), &mut env, |_| configured);
            assert!(env.get("OTHER").is_some());
            env.get("TOKEN").is_some()
        };
        assert_eq!((after(own + 1, false), after(own + 1, true), after(own, false)), (false, true, true));
    }

    #[test]
    fn a_user_gets_its_home_and_no_name_that_was_not_asked_for() {
        let identity =
            Identity { uid: 5, gid: None, groups: vec![], name: Some("ann".to_owned()), home: "/home/ann".to_owned() };
        let mut env = Environment::own();
        env.remove("USER");
        env.set("LOGNAME", b"root").unwrap();
        introduce(&identity, &mut env, |_| false).unwrap();
        assert_eq!(env.get("HOME"), Some(OsStr::new("/home/ann")));
        assert_eq!(env.get("USER"), None);
        assert_eq!(env.get("LOGNAME"), Some(OsStr::new("ann")));
        introduce(&Identity { home: "/other".to_owned(), ..identity }, &mut env, |name| name == "HOME").unwrap();
        assert_eq!(env.get("HOME"), Some(OsStr::new("/home/ann")), "a configured one stays");
    }
}
