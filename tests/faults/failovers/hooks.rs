//! The hooks' arithmetic by itself: what they call is replaced, so that no database and no container is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// An example's promotion, with its data below a directory of the test's own.
struct Promotion {
    directory: tempfile::TempDir,
    counter: &'static str,
}

impl Promotion {
    /// `hook` is the example's, `home` where it has its data; `counter` is the key it counts its promotions in.
    fn of(example: &str, home: &str, counter: &'static str) -> Promotion {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples");
        let hook = fs::read_to_string(root.join(example).join("hook")).expect("the example has a hook");
        let own = directory.path().join("home");
        fs::create_dir_all(own.join("data/pg_wal")).expect("directories can be made");
        let promotion = Promotion { directory, counter };
        promotion.program("hook", &hook.replace(home, own.to_str().expect("a path of ASCII")));
        promotion
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be made a program");
    }

    /// Promotes, where `pilotfish kv get` answers so; returns what the counter is set to, if the promotion succeeds.
    fn counts(&self, term: u64, (code, found): (i32, &str)) -> Option<String> {
        let put = self.directory.path().join("put");
        let _ = fs::remove_file(&put);
        let script = "#!/bin/bash\ncase $2 in get) printf '%s\\n' \"$FOUND\"; exit $CODE ;; put) echo \"${*:3}\" >$PUT ;; esac\n";
        self.program("pilotfish", script);
        let path = std::env::var("PATH").expect("there is a PATH");
        let promoted = Command::new(self.directory.path().join("hook"))
            .arg("promote")
            .envs([("PASSWORD", "x"), ("PGPASSWORD", "x"), ("PILOTFISH_LEADER", ""), ("PILOTFISH_ROLE", "leader")])
            .env("PILOTFISH_TERM", term.to_string())
            .env("PATH", format!("{}:{path}", self.directory.path().display()))
            .env("PUT", &put)
            .env("SQL", self.sql())
            .envs([("CODE", code.to_string()), ("FOUND", found.to_owned())])
            .current_dir(self.directory.path())
            .output()
            .expect("bash can be started");
        let put = fs::read_to_string(put).ok().filter(|_| promoted.status.success())?;
        Some(put.trim().strip_prefix(self.counter)?.trim().strip_suffix(" --fenced")?.to_owned())
    }

    fn sql(&self) -> std::path::PathBuf {
        self.directory.path().join("sql")
    }
}

/// What both must do: nothing but a number that is there, or a key that isn't, lets anybody be promoted.
fn refuses_what_is_no_answer(promotion: &Promotion) {
    let ran = promotion.directory.path().join("ran");
    let command = format!("a[$(touch {})]", ran.display());
    for (code, found) in [(69, ""), (64, ""), (0, ""), (0, "x"), (0, "-1"), (0, "99999999999"), (0, &*command)] {
        assert_eq!(promotion.counts(7, (code, found)), None, "{code} {found:?}");
    }
    assert!(!ran.exists(), "what stands in a key was run");
}

#[test]
fn mariadb_begins_at_numbers_that_no_primary_had_however_high_the_term() {
    let promotion = Promotion::of("mariadb", "/var/lib/mysql", "db/epoch");
    let executed = (5_u64 << 32) + 17;
    fs::write(promotion.directory.path().join("home/data/binlog.000001"), binary_log(&[executed]))
        .expect("a file can be written");
    let mariadb = format!("#!/bin/sh\necho \"$*\" >>$SQL\ncase $* in *'SELECT CAST'*) echo {executed} ;; esac\n");
    promotion.program("mariadb", &mariadb);
    for (found, epoch) in [((1, ""), 6_u64), ((0, "3"), 6), ((0, "5"), 6), ((0, "08"), 9), ((0, "41"), 42)] {
        for term in [7, 1 << 31, 1 << 40] {
            let _ = fs::remove_file(promotion.sql());
            assert_eq!(promotion.counts(term, found), Some(epoch.to_string()), "{found:?}, term {term}");
            let sql = fs::read_to_string(promotion.sql()).expect("it was asked");
            assert!(sql.contains(&format!("gtid_seq_no = {};", epoch << 32)), "{sql}");
        }
    }
    refuses_what_is_no_answer(&promotion);
}

/// A log of MariaDB, with a transaction of each of these numbers: what begins it, its row, what ends it.
fn binary_log(numbers: &[u64]) -> Vec<u8> {
    let event = |kind: u8, body: &[u8]| {
        let size = u32::try_from(19 + body.len()).expect("it is small");
        [&[0; 4], &[kind][..], &[0; 4], &size.to_le_bytes(), &[0; 6], body].concat()
    };
    let transactions = numbers.iter().map(|number| {
        let begin = event(162, &[&number.to_le_bytes()[..], &[0; 5]].concat());
        [begin, event(23, &[162; 40]), event(16, &[0; 8])].concat()
    });
    let first = [b"\xfebin".to_vec(), event(15, &[0; 200])].concat();
    [first].into_iter().chain(transactions).flatten().collect()
}

/// A log that breaks off has no last transaction that anybody was told of.
#[test]
fn a_mariadb_has_the_rank_of_its_last_whole_transaction() {
    let promotion = Promotion::of("mariadb", "/var/lib/mysql", "");
    let home = promotion.directory.path().join("home");
    let rank = || {
        let path = std::env::var("PATH").expect("there is a PATH");
        let ranked = Command::new(promotion.directory.path().join("hook"))
            .arg("rank")
            .envs([("PILOTFISH_ROLE", "replica"), ("PILOTFISH_LEADER", ""), ("PILOTFISH_FIRST", ""), ("PASSWORD", "x")])
            .env("PATH", format!("{}:{path}", promotion.directory.path().display()))
            .output()
            .expect("bash can be started");
        assert!(ranked.status.success(), "{ranked:?}");
        String::from_utf8(ranked.stdout).expect("it is text").trim().to_owned()
    };
    let write = |log: &str, bytes: &[u8]| fs::write(home.join(log), bytes).expect("a file can be written");
    assert_eq!(rank(), "0");
    write("copied", b"GTID 0-1-7\n");
    assert_eq!(rank(), "7");
    let epoch = 5_u64 << 32;
    write("data/binlog.000001", &binary_log(&[epoch, epoch + 1]));
    write("data/binlog.000002", &binary_log(&[]));
    assert_eq!(rank(), (epoch + 1).to_string());
    let received = binary_log(&[epoch + 1, epoch + 2, epoch + 3]);
    for (missing, last) in [(0, epoch + 3), (1, epoch + 2), (27, epoch + 2), (70, epoch + 2), (117, epoch + 2)] {
        write("data/relay.000003", &received[..received.len() - missing]);
        assert_eq!(rank(), last.to_string(), "{missing} bytes are missing");
    }
}

#[test]
fn postgres_takes_a_timeline_that_nobody_took() {
    let promotion = Promotion::of("postgres", "/var/lib/postgresql", "db/timeline");
    let segment = promotion.directory.path().join("home/data/pg_wal/000000050000000000000003");
    fs::write(segment, "").expect("a file can be written");
    promotion.program("pg_waldump", "#!/bin/sh\necho 'error in WAL record at 0/3000060: invalid' >&2\n");
    promotion.program("psql", "#!/bin/sh\necho t\n");
    for (found, timeline) in [((1, ""), "6"), ((0, "3"), "6"), ((0, "5"), "6"), ((0, "08"), "9"), ((0, "41"), "42")] {
        assert_eq!(promotion.counts(7, found).as_deref(), Some(timeline), "{found:?}");
    }
    refuses_what_is_no_answer(&promotion);
}

/// A replica asks its primary for the history of each timeline between its own and the primary's, and follows none that hasn't
/// them all. An empty one that is the highest keeps a server from starting.
#[test]
fn a_timeline_that_a_postgres_passes_over_has_a_history_and_one_that_never_was_has_none() {
    let promotion = Promotion::of("postgres", "/var/lib/postgresql", "db/timeline");
    let log = promotion.directory.path().join("home/data/pg_wal");
    fs::write(log.join("000000050000000000000003"), "").expect("a file can be written");
    promotion.program("pg_waldump", "#!/bin/sh\necho 'error in WAL record at 0/3000060: invalid' >&2\n");
    let histories = || {
        let entries = fs::read_dir(&log).expect("it is there").map(|entry| entry.expect("readable").path());
        let mut found: Vec<_> = entries
            .filter(|path| path.to_str().is_some_and(|path| path.contains("history")))
            .map(|path| (path.file_stem().expect("a name").to_owned(), fs::read_to_string(&path).expect("it is text")))
            .collect();
        found.sort();
        found
    };
    promotion.program("psql", "#!/bin/sh\necho f\n");
    assert_eq!(promotion.counts(7, (0, "7")), None, "it wasn't promoted");
    assert_eq!(histories(), [("00000006".into(), String::new()), ("00000007".into(), String::new())]);
    let path = std::env::var("PATH").expect("there is a PATH");
    let prepared = Command::new(promotion.directory.path().join("hook"))
        .arg("prepare")
        .envs([("PGPASSWORD", "x"), ("PILOTFISH_ROLE", "leader"), ("PILOTFISH_FIRST", ""), ("PILOTFISH_LEADER", "")])
        .env("PATH", format!("{}:{path}", promotion.directory.path().display()))
        .output()
        .expect("bash can be started");
    assert!(prepared.status.success(), "{prepared:?}");
    assert_eq!(histories(), []);
    let new = log.join("00000009.history");
    promotion.program("psql", &format!("#!/bin/sh\necho '5 0/3000060' >{}\necho t\n", new.display()));
    assert_eq!(promotion.counts(8, (0, "8")).as_deref(), Some("9"));
    let all = ["00000006", "00000007", "00000008", "00000009"];
    assert_eq!(histories(), all.map(|timeline| (timeline.into(), "5 0/3000060\n".to_owned())));
}

/// A replica's `prepare` with data there, which may have been found unfit: whether they still are. `data.old` counts, for
/// the next `prepare` puts it back where there is no `data`.
fn keeps_its_data(example: &str, home: &str, unfit: bool, programs: &[(&str, &str)]) -> bool {
    let promotion = Promotion::of(example, home, "");
    let own = promotion.directory.path().join("home");
    fs::write(own.join("data/row"), "42").expect("a file can be written");
    if unfit {
        fs::write(own.join("unusable"), "").expect("a file can be written");
    }
    for (name, script) in programs {
        promotion.program(name, &format!("#!/bin/bash\n{script}\n"));
    }
    let path = std::env::var("PATH").expect("there is a PATH");
    let prepared = Command::new(promotion.directory.path().join("hook"))
        .arg("prepare")
        .envs([("PASSWORD", "x"), ("PGPASSWORD", "x"), ("PILOTFISH_ROLE", "replica"), ("PILOTFISH_FIRST", "")])
        .env("PILOTFISH_LEADER", "192.0.2.1:1")
        .env("PATH", format!("{}:{path}", promotion.directory.path().display()))
        .current_dir(promotion.directory.path())
        .output()
        .expect("bash can be started");
    let there = |data: &str| own.join(data).join("row").exists();
    let kept = there("data") || (!own.join("data").exists() && there("data.old"));
    assert!(kept || prepared.status.success(), "its data are gone, and there are no others: {prepared:?}");
    kept
}

/// A leader's entry outlives it by a while. Each program fails once while all others do what they should.
fn deletes_data_for_none_but_a_whole_copy(example: &str, home: &str, programs: &[(&str, &str)], copying: &[&str]) {
    assert!(!keeps_its_data(example, home, true, programs), "{example}: with a copy at hand nothing was replaced");
    for failing in copying {
        let programs: Vec<_> =
            programs.iter().map(|&(name, script)| (name, if name == *failing { "exit 1" } else { script })).collect();
        for unfit in [false, true] {
            assert!(keeps_its_data(example, home, unfit, &programs), "{example}: {failing} failed, unfit: {unfit}");
        }
    }
}

#[test]
fn a_postgres_deletes_its_data_for_no_leader_that_is_gone() {
    let programs = [
        ("psql", "echo 7"),
        ("pg_controldata", "printf 'Database system identifier: 7\nDatabase cluster state: shut down\n'"),
        ("pg_rewind", "exit 1"),
        ("pg_basebackup", "mkdir \"$4\""),
        ("pg_verifybackup", "exit 0"),
    ];
    let copying = ["psql", "pg_basebackup", "pg_verifybackup"];
    deletes_data_for_none_but_a_whole_copy("postgres", "/var/lib/postgresql", &programs, &copying);
}

#[test]
fn a_mariadb_deletes_its_data_for_no_leader_that_is_gone() {
    let programs = [
        ("mariadb-install-db", "for arg; do case $arg in --datadir=*) mkdir \"${arg#*=}\" ;; esac; done"),
        ("mariadbd", "trap 'exit 0' TERM; sleep 2 & wait"),
        ("mariadb", "exit 0"),
        ("mariadb-dump", "echo \"SET GLOBAL gtid_slave_pos='0-1-7'\"; echo '-- Dump completed'"),
    ];
    let copying = ["mariadb-install-db", "mariadbd", "mariadb", "mariadb-dump"];
    deletes_data_for_none_but_a_whole_copy("mariadb", "/var/lib/mysql", &programs, &copying);
    // Of a dump that breaks off the end is missing, and nobody says so.
    let broken =
        programs.map(|(name, script)| (name, if name == "mariadb-dump" { "echo 'INSERT INTO'" } else { script }));
    assert!(keeps_its_data("mariadb", "/var/lib/mysql", true, &broken));
}

/// As after a copy of a primary that nobody writes to. With an empty rank nobody led, and so nobody wrote.
#[test]
fn a_postgres_whose_log_ends_with_a_segment_has_the_rank_of_its_last_record() {
    let promotion = Promotion::of("postgres", "/var/lib/postgresql", "");
    let segment = promotion.directory.path().join("home/data/pg_wal/000000050000000000000003");
    fs::write(segment, "").expect("a file can be written");
    let rank = |waldump: &str| {
        promotion.program("pg_waldump", &format!("#!/bin/bash\n{waldump}\n"));
        let path = std::env::var("PATH").expect("there is a PATH");
        let ranked = Command::new(promotion.directory.path().join("hook"))
            .arg("rank")
            .envs([("PILOTFISH_ROLE", "replica"), ("PILOTFISH_LEADER", ""), ("PILOTFISH_FIRST", "")])
            .env("PATH", format!("{}:{path}", promotion.directory.path().display()))
            .output()
            .expect("bash can be started");
        String::from_utf8(ranked.stdout).expect("it is text").trim().to_owned()
    };
    let record = |at: &str, what: &str| {
        format!("echo 'rmgr: XLOG len (rec/tot): 24/ 24, tx: 0, lsn: 0/{at}, prev 0/03000060, desc: {what}'")
    };
    let records = format!("{}\n{}", record("03000060", "CHECKPOINT_ONLINE"), record("03000100", "SWITCH"));
    assert_eq!(rank(&format!("[ \"$1\" != -q ] || exit 0\n{records}")), "00000005/00000000/03000100");
    let breaks_off = "echo 'pg_waldump: error: error in WAL record at 0/3000100: invalid record length' >&2; exit 1";
    assert_eq!(rank(&format!("[ \"$1\" = -q ] || {{ {records}\n}}\n{breaks_off}")), "00000005/00000000/03000100");
}

#[test]
fn a_backup_that_breaks_off_is_none_and_leaves_the_night_to_another() {
    let promotion = Promotion::of("postgres", "/var/lib/postgresql", "");
    let at = |name: &str| promotion.directory.path().join(name);
    let hook = fs::read_to_string(at("hook")).expect("it is there");
    promotion.program("hook", &hook.replace(" /backup", &format!(" {}", at("backup").display())));
    fs::create_dir(at("backup")).expect("a directory can be made");
    promotion.program("pilotfish", &format!("#!/bin/sh\necho \"$*\" >>{}", at("keys").display()));
    promotion.program("pg_verifybackup", "#!/bin/sh\n");
    let keys_after = |code: u8| {
        promotion.program("pg_basebackup", &format!("#!/bin/sh\nmkdir \"$2\"; exit {code}\n"));
        let _ = fs::remove_file(at("keys"));
        let path = std::env::var("PATH").expect("there is a PATH");
        let backup = Command::new(at("hook"))
            .arg("backup")
            .envs([("PILOTFISH_ROLE", "replica"), ("PILOTFISH_LEADER", ""), ("HOSTNAME", "pg2")])
            .env("PATH", format!("{}:{path}", promotion.directory.path().display()))
            .output()
            .expect("bash can be started");
        assert_eq!(backup.status.success(), code == 0, "{backup:?}");
        fs::read_to_string(at("keys")).expect("keys were asked for")
    };
    let complete = || {
        let entries =
            fs::read_dir(at("backup")).expect("it is there").map(|entry| entry.expect("readable").file_name());
        entries.filter(|name| name != "new").count()
    };
    let keys = keys_after(1);
    assert!(keys.contains("kv delete db/backup-of/") && !keys.contains("kv put"), "{keys}");
    assert_eq!(complete(), 0);
    let keys = keys_after(0);
    assert!(!keys.contains("kv delete") && keys.contains("kv put db/backup 2"), "{keys}");
    assert_eq!(complete(), 1);
}

/// All tied at 0 when all had just been started, and an empty one could come to lead.
#[test]
fn a_redis_that_is_not_up_has_no_rank_and_an_empty_one_only_at_first() {
    let promotion = Promotion::of("redis", "/var/lib/redis", "");
    let rank = |answers: &str, first: &str| {
        promotion.program("redis-cli", &format!("#!/bin/sh\n{answers}\n"));
        let path = std::env::var("PATH").expect("there is a PATH");
        let ranked = Command::new(promotion.directory.path().join("hook"))
            .arg("rank")
            .envs([("PILOTFISH_ROLE", "leader"), ("PILOTFISH_LEADER", ""), ("PILOTFISH_FIRST", first)])
            .env("PATH", format!("{}:{path}", promotion.directory.path().display()))
            .output()
            .expect("sh can be started");
        ranked.status.success().then(|| String::from_utf8(ranked.stdout).expect("it is text").trim().to_owned())
    };
    assert_eq!(rank("exit 1", "1"), None, "it isn't up");
    let has = |term: &str| format!("case $* in *info*) echo master_repl_offset:42 ;; *get*) echo '{term}' ;; esac");
    let up = |number: u64| format!("{number:020}/{:020}", 42);
    assert_eq!(rank(&has("7"), ""), Some(up(7)));
    assert_eq!(rank(&has(""), ""), Some("never".to_owned()));
    assert_eq!(rank(&has(""), "1"), Some(up(0)));
    assert_eq!(rank("case $* in *info*) exit 1 ;; *get*) echo 7 ;; esac", ""), None, "it has just ended");
}
