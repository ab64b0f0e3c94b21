//! Time zones, as `tz` names them: from the image's zone data, or written out. Zone data are read once, with the config.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use nix::libc;

use super::context::Variables;

/// Where zone data are (zic(8)), unless `TZDIR` says otherwise.
const DIRECTORY: &str = "/usr/share/zoneinfo";
/// The largest zone of today's data takes 4 KiB.
const LONGEST_FILE: u64 = 256 << 10;

/// A time zone and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// Why there is no such zone.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// It is neither a name nor written out.
    #[error("isn't a time zone")]
    Unreadable,
    /// There are no zone data at all.
    #[error("needs zone data, and there are none in {}", .0.display())]
    NoData(PathBuf),
    /// There are zone data, and it isn't among them.
    #[error("isn't a zone of {}", .0.display())]
    Unknown(PathBuf),
    /// Its data can't be read.
    #[error("can't be used: {}: {cause}", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

impl ZoneError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ZoneError::NoData(_) => {
                "install the image's tzdata, or write the zone out: `\"CET-1CEST,M3.5.0,M10.5.0/3\"` is Berlin's (tzset(3))"
            }
            ZoneError::Unreadable | ZoneError::Unknown(_) => "names are like `\"Europe/Berlin\"` and `\"UTC\"`",
            ZoneError::Broken { .. } => "the file isn't as tzfile(5) says; reinstall the image's tzdata",
        }
    }
}

impl Zone {
    /// The one that needs no data.
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Finds one by its name, or reads one that is written out as tzset(3) has it.
    ///
    /// # Errors
    /// There is none of this name, or no zone data.
    pub fn find(name: &str, variables: &Variables) -> Result<Zone, ZoneError> {
        if matches!(name, "UTC" | "Etc/UTC") {
            return Ok(Zone::utc());
        }
        let found = |zone| Zone { name: name.to_owned(), zone };
        let directory = variables.get("TZDIR").filter(|directory| !directory.is_empty());
        let directory = Path::new(directory.unwrap_or(OsStr::new(DIRECTORY)));
        let missing = match by_name(name, directory) {
            Ok(zone) => return Ok(found(zone)),
            Err(error @ ZoneError::Broken { .. }) => return Err(error),
            Err(missing) => missing,
        };
        TimeZone::posix(name).map(found).map_err(|_| missing)
    }

    /// By which dates are found.
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn by_name(name: &str, directory: &Path) -> Result<TimeZone, ZoneError> {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    if !name.split('/').all(is_name) {
        return Err(ZoneError::Unreadable);
    }
    let path = directory.join(name);
    let broken = |cause: String| ZoneError::Broken { path: path.clone(), cause };
    let data = match read(&path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(match directory.is_dir() {
                true => ZoneError::Unknown(directory.to_owned()),
                false => ZoneError::NoData(directory.to_owned()),
            });
        }
        Err(error) => return Err(broken(error.to_string())),
    };
    TimeZone::tzif(name, &data).map_err(|error| broken(error.to_string()))
}

/// A pipe in a file's place is not waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it isn't a plain file"));
    }
    let mut data = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, directory: &Path) -> Result<Zone, ZoneError> {
        Zone::find(name, &[("TZDIR", directory)].into_iter().collect())
    }

    /// As zic writes one that is always at an offset: no changes, one type, and the rule (tzfile(5)).
    fn fixed(offset: i32, rule: &str) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..2 {
            data.extend(b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
            for count in [0u32, 0, 0, 0, 1, 4] {
                data.extend(count.to_be_bytes());
            }
            data.extend(offset.to_be_bytes());
            data.extend(b"\0\0ABC\0");
        }
        data.extend(format!("\n{rule}\n").bytes());
        data
    }

    #[test]
    fn a_zone_is_found_by_its_name_in_the_images_data() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("Asia")).unwrap();
        std::fs::write(directory.path().join("Asia/Abc"), fixed(7200, "ABC-2")).unwrap();
        let zone = find("Asia/Abc", directory.path()).unwrap();
        assert_eq!(
            (zone.name(), zone.time_zone().to_offset(jiff::Timestamp::UNIX_EPOCH).seconds()),
            ("Asia/Abc", 7200)
        );
        let unknown = find("Europe/Berlim", directory.path()).unwrap_err();
        assert!(matches!(unknown, ZoneError::Unknown(_)) && unknown.hint().contains("Europe/Berlin"));
    }

    #[test]
    fn a_zone_that_is_written_out_needs_no_data_and_neither_does_utc() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(find("UTC", nowhere).unwrap(), Zone::utc());
        let berlin = find("CET-1CEST,M3.5.0,M10.5.0/3", nowhere).unwrap();
        assert_eq!(berlin.time_zone().to_offset(jiff::Timestamp::UNIX_EPOCH).seconds(), 3600);
        let missing = find("Europe/Berlin", nowhere).unwrap_err();
        assert!(matches!(missing, ZoneError::NoData(_)) && missing.hint().contains("tzdata"));
    }

    #[test]
    fn what_is_no_zone_leads_nowhere_and_nobody_waits_for_a_pipe() {
        let directory = tempfile::tempdir().unwrap();
        for odd in ["", "/etc/passwd", "../etc/passwd", "Europe/../Europe/Berlin", "a b", "Europe/", ":Europe/Berlin"] {
            assert!(find(odd, directory.path()).is_err(), "{odd}");
        }
        std::fs::write(directory.path().join("Odd"), "nonsense").unwrap();
        nix::unistd::mkfifo(&directory.path().join("Pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(directory.path().join("Folder")).unwrap();
        for broken in ["Odd", "Pipe", "Folder"] {
            assert!(matches!(find(broken, directory.path()), Err(ZoneError::Broken { .. })), "{broken}");
        }
    }
}
