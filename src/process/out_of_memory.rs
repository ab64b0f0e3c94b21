//! Whether the kernel kills for want of memory: all that a container's end shows of that is SIGKILL, as if somebody had
//! sent it. The cgroup counts (`oom_kill` in memory.events, cgroup-v2.rst; in memory.oom_control before).

use std::fs;
use std::path::{Path, PathBuf};

/// How many of this cgroup's processes were killed so.
#[derive(Debug)]
pub struct OutOfMemory {
    /// Where the kernel tells; `None` where nobody knows.
    counter: Option<PathBuf>,
    seen: u64,
}

impl OutOfMemory {
    /// From now on.
    pub fn watch() -> OutOfMemory {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let counter = counters(&groups).into_iter().find(|file| count(file).is_some());
        let seen = counter.as_deref().and_then(count).unwrap_or_default();
        OutOfMemory { counter, seen }
    }

    /// How many were killed since it was last asked.
    pub fn news(&mut self) -> u64 {
        let count = self.counter.as_deref().and_then(count).unwrap_or(self.seen);
        count.saturating_sub(std::mem::replace(&mut self.seen, count))
    }
}

/// Where the count may be, by /proc/self/cgroup: a container often sees its own cgroup as the root.
fn counters(groups: &str) -> Vec<PathBuf> {
    let below = |root: &str, group: &str, file: &str| {
        [Path::new(root).join(group.trim_start_matches('/')).join(file), Path::new(root).join(file)]
    };
    let places = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        match (parts.next()?, parts.next()?) {
            ("", group) => Some(below("/sys/fs/cgroup", group, "memory.events")),
            (controllers, group) if controllers.split(',').any(|controller| controller == "memory") => {
                Some(below("/sys/fs/cgroup/memory", group, "memory.oom_control"))
            }
            _ => None,
        }
    });
    places.flatten().collect()
}

fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_from_the_beginning_on_and_each_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        let write =
            |kills: u64| fs::write(&file, format!("low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n")).unwrap();
        write(3);
        let mut watch = OutOfMemory { seen: count(&file).unwrap(), counter: Some(file.clone()) };
        assert_eq!(watch.news(), 0);
        write(5);
        assert_eq!((watch.news(), watch.news()), (2, 0));
        fs::remove_file(&file).unwrap();
        assert_eq!(watch.news(), 0);
    }

    #[test]
    fn the_count_is_where_either_version_of_cgroups_has_it() {
        let places = |groups: &str| {
            counters(groups).iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(places("0::/\n"), "/sys/fs/cgroup/memory.events /sys/fs/cgroup/memory.events");
        assert_eq!(places("0::/a/b\n"), "/sys/fs/cgroup/a/b/memory.events /sys/fs/cgroup/memory.events");
        assert_eq!(
            places("5:cpu,memory:/c\n1:name=systemd:/c\n"),
            "/sys/fs/cgroup/memory/c/memory.oom_control /sys/fs/cgroup/memory/memory.oom_control"
        );
        assert_eq!(places("garbage\n"), "");
    }
}
