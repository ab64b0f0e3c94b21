//! What a config runs, as whom and where, and which files it has the agent read. It looks nobody up, and opens none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::backends::{SecretSource, Tls};
use super::{Backend, Config, Exec, Probe, RunAs};

/// A command beside main.
struct Command<'a> {
    /// Whose it is.
    who: String,
    exec: Option<&'a Exec>,
    run_as: &'a RunAs,
}

impl Config {
    /// Each user that is named, with what runs as them.
    pub fn users(&self) -> BTreeMap<&str, Vec<String>> {
        let main = self.process.user.as_ref().map(|user| ("main".to_owned(), user));
        let others = self.commands().into_iter();
        let others = others.filter_map(|Command { who, run_as, .. }| Some((who, run_as.user.as_ref()?)));
        let mut users = BTreeMap::<&str, Vec<String>>::new();
        for (who, user) in main.into_iter().chain(others) {
            users.entry(user).or_default().push(who);
        }
        users
    }

    /// Each file that the agent reads for itself, or for what it runs, with who needs it.
    pub fn files(&self) -> BTreeMap<&Path, Vec<String>> {
        let mut needed: Vec<(String, &PathBuf)> = Vec::new();
        needed.extend(self.process.env_from_files.values().map(|path| ("main".to_owned(), path)));
        for Command { who, run_as, .. } in self.commands() {
            needed.extend(run_as.env_from_files.values().map(|path| (who.clone(), path)));
        }
        let (token, login, tls) = match &self.catalog.backend {
            Backend::Consul(consul) => (consul.token.as_ref(), consul.basic.as_ref(), Some(&consul.tls)),
            Backend::Etcd(etcd) => (None, etcd.login.as_ref(), Some(&etcd.tls)),
            Backend::Local { .. } | Backend::None => (None, None, None),
        };
        let password = login.and_then(|login| login.password.as_ref());
        for (key, secret) in [("token_file", token), ("password_file", password)] {
            if let Some(SecretSource::File(path)) = secret {
                needed.push((format!("[catalog] {key}"), path));
            }
        }
        if let Some(Tls { ca, identity, .. }) = tls {
            let own = identity.iter().flat_map(|own| [&own.certificate, &own.key]);
            needed.extend(ca.iter().chain(own).map(|path| ("[catalog] tls".to_owned(), path)));
        }
        let listen = self.control.listen.as_ref();
        needed.extend(listen.map(|listen| ("[control] token_file".to_owned(), &listen.token_file)));
        needed.extend(
            self.watches
                .iter()
                .filter_map(|watch| Some((format!("watch {}", watch.name), &watch.template.as_ref()?.source))),
        );
        needed.extend(self.health.iter().filter_map(|check| {
            let ca = match &check.probe {
                Probe::Http(http) => http.ca.as_ref(),
                Probe::Grpc(grpc) => grpc.tls.as_ref().and_then(|trust| trust.ca.as_ref()),
                _ => None,
            };
            Some((format!("check {}", check.name), ca?))
        }));
        let mut files = BTreeMap::<&Path, Vec<String>>::new();
        for (who, path) in needed {
            files.entry(path).or_default().push(who);
        }
        files
    }

    /// Each program that is run, with who needs it, and the `PATH` that is set for it, if one is.
    pub fn programs(&self) -> Vec<(String, &Exec, Option<&str>)> {
        let main = &self.process;
        let main = ("main".to_owned(), &main.exec, main.env.get("PATH").map(String::as_str));
        let others = self
            .commands()
            .into_iter()
            .filter_map(|Command { who, exec, run_as }| Some((who, exec?, run_as.env.get("PATH").map(String::as_str))));
        std::iter::once(main).chain(others).collect()
    }

    /// Each directory that something is run in, with who needs it.
    pub fn directories(&self) -> Vec<(String, &Path)> {
        let main = self.process.directory.as_deref().map(|directory| ("main".to_owned(), directory));
        let coprocesses = self
            .coprocesses
            .iter()
            .filter_map(|coprocess| Some((format!("coprocess {}", coprocess.name), coprocess.directory.as_deref()?)));
        main.into_iter().chain(coprocesses).collect()
    }

    /// Each command beside main, and as what it runs.
    fn commands<'a>(&'a self) -> Vec<Command<'a>> {
        fn command<'a>(who: impl Into<String>, exec: &'a Exec, run_as: &'a RunAs) -> Command<'a> {
            Command { who: who.into(), exec: Some(exec), run_as }
        }
        let hooks = &self.hooks;
        let named = [
            ("post_start", hooks.post_start.as_ref()),
            ("pre_stop", hooks.pre_stop.as_ref()),
            ("post_stop", hooks.post_stop.as_ref()),
            ("on_promote", hooks.on_promote.as_ref()),
            ("on_demote", hooks.on_demote.as_ref()),
            ("on_leader_change", hooks.on_leader_change.as_ref()),
            ("rank", self.election.as_ref().and_then(|election| election.rank.as_ref())),
        ];
        let pre_start = hooks.pre_start.iter().map(|pre_start| ("pre_start", Some(&pre_start.hook)));
        let hooks = pre_start.chain(named).filter_map(|(name, hook)| Some(command(name, &hook?.exec, &hook?.run_as)));
        let watches = self.watches.iter().flat_map(|watch| {
            let on_change = watch.on_change.as_ref();
            let on_change =
                on_change.map(|hook| command(format!("on_change of watch {}", watch.name), &hook.exec, &hook.run_as));
            let check = watch.template.as_ref().map(|template| Command {
                who: format!("check of watch {}", watch.name),
                exec: template.check.as_ref(),
                run_as: &template.check_as,
            });
            on_change.into_iter().chain(check)
        });
        let checks = self.health.iter().filter_map(|check| match &check.probe {
            Probe::Exec { exec, run_as } => Some(command(format!("check {}", check.name), exec, run_as)),
            _ => None,
        });
        let tasks = self.tasks.iter().map(|task| command(format!("task {}", task.name), &task.exec, &task.run_as));
        let sensors = self.sensors.iter().filter_map(|sensor| {
            let measured = sensor.command.as_ref()?;
            Some(command(format!("sensor {}", sensor.name), &measured.exec, &measured.run_as))
        });
        let coprocesses = self.coprocesses.iter().flat_map(|coprocess| {
            let (pre_start, post_stop) = (coprocess.pre_start.as_ref(), coprocess.post_stop.as_ref());
            let parts = [
                ("coprocess", Some((&coprocess.exec, &coprocess.run_as))),
                ("pre_start of", pre_start.map(|hook| (&hook.exec, &hook.run_as))),
                ("post_stop of", post_stop.map(|hook| (&hook.exec, &hook.run_as))),
            ];
            let named = |(what, parts): (&str, Option<(&'a Exec, &'a RunAs)>)| {
                let (exec, run_as) = parts?;
                Some(command(format!("{what} {}", coprocess.name), exec, run_as))
            };
            parts.into_iter().filter_map(named)
        });
        hooks.chain(watches).chain(checks).chain(tasks).chain(sensors).chain(coprocesses).collect()
    }
}
