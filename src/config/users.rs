//! Whom a config runs commands as. It looks nobody up.

use std::collections::BTreeMap;

use super::{Config, Probe};

impl Config {
    /// Each user that is named, with what runs as them.
    pub fn users(&self) -> BTreeMap<&str, Vec<String>> {
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
        let others = hooks.chain(watches).chain(checks).chain(tasks).chain(sensors).chain(coprocesses);
        let main = self.process.user.as_ref().map(|user| ("main".to_owned(), user));
        let others = others.filter_map(|(who, run_as)| Some((who, run_as.user.as_ref()?)));
        let mut users = BTreeMap::<&str, Vec<String>>::new();
        for (who, user) in main.into_iter().chain(others) {
            users.entry(user).or_default().push(who);
        }
        users
    }
}
