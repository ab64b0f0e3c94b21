//! Paths of files and sockets.

use std::path::PathBuf;

use super::{Format, Wrong};

/// A path the kernel can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl Format for FilePath {
    const NAME: &'static str = "path";
    const WHAT: &'static str = "a path";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong { what: "is an empty path".to_owned(), hint: None });
        }
        Ok(FilePath(PathBuf::from(text)))
    }

    fn write(&self) -> String {
        self.0.display().to_string()
    }
}

/// Where a unix socket is made; `None` (written `""`) is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketPath(pub(crate) Option<PathBuf>);

/// The longest path of a unix socket, without its final NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

impl Format for SocketPath {
    const NAME: &'static str = "socket";
    const WHAT: &'static str = "a path of a unix socket, or `\"\"` for none";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST_SOCKET_PATH {
            return Err(Wrong::new(
                format_args!("is too long for a unix socket: {} bytes", text.len()),
                format!("the kernel takes {LONGEST_SOCKET_PATH} bytes; use a shorter directory"),
            ));
        }
        Ok(SocketPath((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn write(&self) -> String {
        self.0.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reads;
    use super::*;

    #[test]
    fn a_path_says_something() {
        reads::<FilePath>(&["/a", "a/b", "."], &[""]);
    }

    #[test]
    fn a_socket_path_fits_into_its_address() {
        let (longest, longer) = (format!("/{}", "a".repeat(106)), format!("/{}", "a".repeat(107)));
        reads::<SocketPath>(&["", "/run/pilotfish.sock", &longest], &[&longer]);
    }
}
