//! Measures how long a change of a dependency takes to start the hook that waits for it: `latency PILOTFISH SERVERS
//! CHANGES`, on each catalog, with the real agent and the real engine, at rest and with the default settle. The clock
//! runs from just before the change is sent to the engine to the hook's first instruction. It judges nothing.
//!
//! Prints a line for each: catalog, changes, then microseconds: median, 99th percentile, most, and the median of what
//! the engine itself took to answer the write.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: the bans are the agent's"
)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

mod testbed;

use testbed::{Held, Home, Hooks, MARKED, PATIENCE, Running, Store, kernel, percentile, play_hook};

/// Longer than the default settle of 100 ms: the next change comes after a quiet spell.
const QUIET: Duration = Duration::from_millis(130);

fn main() -> io::Result<()> {
    let now = kernel::now();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "hook", socket] => play_hook(now, socket, None),
        [_, pilotfish, servers, changes] => {
            let changes = changes.parse().map_err(io::Error::other)?;
            for catalog in ["local", "consul", "etcd"] {
                measure(catalog, pilotfish, Path::new(servers), changes)?;
            }
            Ok(())
        }
        _ => Err(io::Error::other("usage: latency PILOTFISH SERVERS CHANGES")),
    }
}

fn measure(catalog: &str, pilotfish: &str, servers: &Path, changes: u16) -> io::Result<()> {
    let home = Home::new("latency")?;
    let store = Store::start(catalog, servers, &home.0)?;
    let socket = home.0.join("socket");
    let hooks = Hooks::listen(&socket)?;
    let own = std::env::current_exe()?;
    let config = home.0.join("pilotfish.toml");
    fs::write(
        &config,
        format!(
            "[process]\nexec = [\"sleep\", \"3600\"]\n[[watch]]\nname = \"app\"\nservice = \"app\"\n\
             on_change = {{ exec = [\"{}\", \"hook\", \"{}\"] }}\n[catalog]\n{}[control]\nsocket = \"\"\n\
             [log]\nlevel = \"warn\"\n",
            own.display(),
            socket.display(),
            store.config(),
        ),
    )?;
    let _agent = Running::start(Command::new(pilotfish).arg("-c").arg(&config), &home.0.join("agent.log"))?;

    let mut held = Held::new();
    let (mut spans, mut writes) = (Vec::new(), Vec::new());
    // The first changes find caches cold and the agent still starting; they aren't counted.
    for change in 0..changes + 10 {
        let port = MARKED + change;
        let begun = kernel::now();
        store.register("app", "app-1", port, &mut held)?;
        let written = kernel::now();
        let started = hooks.began(&port.to_string(), PATIENCE).map_err(|error| {
            let log = fs::read_to_string(home.0.join("agent.log")).unwrap_or_default();
            io::Error::other(format!("{catalog}, change {change}: {error}\n{log}"))
        })?;
        if change >= 10 {
            spans.push(started - begun);
            writes.push(written - begun);
        }
        // Not in step with anything that ticks.
        sleep(QUIET + Duration::from_micros(u64::from(change) * 7919 % 40_000));
    }
    spans.sort_unstable();
    writes.sort_unstable();
    let at = |values: &[i64], part: usize| percentile(values, part).unwrap_or_default() / 1000;
    let most = at(&spans, 100);
    println!("{catalog} {changes} {} {} {most} {}", at(&spans, 50), at(&spans, 99), at(&writes, 50));
    Ok(())
}
