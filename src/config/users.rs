//! Whom a config runs commands as, and which files it has the agent read. It looks nobody up, and opens none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::backends::{SecretSource, Tls};
use super::{Backend, Config, Probe, RunAs};

impl Config {
    /// Each user that is named, with what runs as them.
    pub fn users(&self) -> BTreeMap<&str, Vec<String>> {
        let main = self.process.user.as_ref().map(|user| ("main".to_owned(), user));
        let others = self.commands().into_iter().filter_map(|(who, run_as)| Some((who, run_as.user.as_ref()?)));
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
        for (who, run_as) in self.commands() {
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

    /// Each command beside main, and as what it runs.
    fn commands(&self) -> Vec<(String, &RunAs)> {
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
        let hooks = pre_start.chain(named).filter_map(|(name, hook)| Some((name.to_owned(), &hook?.run_as)));
        let watches = self.watches.iter().flat_map(|watch| {
            let on_change = watch.on_change.as_ref().map(|hook| ("on_change", &hook.run_as));
            let check = watch.template.as_ref().map(|template| ("check", &template.check_as));
            on_change.into_iter().chain(check).map(|(what, run_as)| (format!("{what} of watch {}", watch.name), run_as))
        });
        let checks = self.health.iter().filter_map(|check| match &check.probe {
            Probe::Exec { run_as, .. } => Some((format!("check {}", check.name), run_as)),
            _ => None,
        });
        let tasks = self.tasks.iter().map(|task| (format!("task {}", task.name), &task.run_as));
        let sensors = self.sensors.iter().filter_map(|sensor| {
            let command = sensor.command.as_ref()?;
            Some((format!("sensor {}", sensor.name), &command.run_as))
        });
        let coprocesses = self.coprocesses.iter().flat_map(|coprocess| {
            let parts = [
                ("coprocess", Some(&coprocess.run_as)),
                ("pre_start of", coprocess.pre_start.as_ref().map(|hook| &hook.run_as)),
                ("post_stop of", coprocess.post_stop.as_ref().map(|hook| &hook.run_as)),
            ];
            parts.into_iter().filter_map(|(what, run_as)| Some((format!("{what} {}", coprocess.name), run_as?)))
        });
        hooks.chain(watches).chain(checks).chain(tasks).chain(sensors).chain(coprocesses).collect()
    }
}
