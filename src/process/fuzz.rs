//! What the fuzz targets throw at what is read of processes: their messages, and what the kernel tells of them, whose
//! names they choose.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Signal;
use crate::plain;

use super::guard::fence;
use super::{notify, outer, senders, signals, tree};

/// A datagram on the notify socket.
pub(crate) fn notify(data: &[u8]) {
    let heard = notify::parse(data);
    if let Some(status) = &heard.status {
        assert!(!status.contains(|c| plain::acts(c) && c != '\t'), "{status:?}");
    }
    let passed_on = notify::parse(&outer::relayed(data, true, true));
    assert_eq!((passed_on.ready, passed_on.watchdog), (heard.ready, heard.watchdog));
    notify::main_pid(data);
    assert_eq!(notify::main_pid(&outer::relayed(data, true, true)), None);
}

/// Files of /proc: `stat` of several processes, a line each; and the same bytes as any other of them.
pub(crate) fn proc(data: &[u8]) {
    let mut processes = BTreeMap::new();
    for (pid, line) in (2..).zip(data.split(|byte| *byte == b'\n')) {
        if let Some(process) = tree::parse(pid, line) {
            processes.insert(pid, process);
        }
    }
    let below = tree::below(1, &processes, |process| process.group == 7);
    assert!(below.iter().all(|process| processes.contains_key(&process.pid) && !process.dead));
    tree::is_torn(&processes);
    senders::user_in(data);
    for number in [1, 15, 64] {
        signals::heeded_in(data, Signal::new(number).expect("a signal's number"));
        signals::blocked_in(data, Signal::new(number).expect("a signal's number"));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        signals::awaited_set(text);
    }
    fence::path_of(data);
    for directory in fence::directories_of(Path::new("/box"), data) {
        assert!(directory.to_str().is_none_or(|directory| !directory.is_empty()));
    }
}
