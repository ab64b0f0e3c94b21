//! Writes the man pages and the completions of bash, zsh and fish into a directory, for who packages pilotfish (`make
//! manual`). They are made of the command line itself; the program has no part in them.

use std::io::Error;
use std::path::PathBuf;

use clap_complete::{Shell, generate_to};
use pilotfish::cli;

fn main() -> Result<(), Error> {
    let directory = std::env::args_os().nth(1).ok_or_else(|| Error::other("which directory?"))?;
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory)?;
    let mut command = cli::command();
    clap_mangen::generate_to(command.clone(), &directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "pilotfish", &directory)?;
    }
    Ok(())
}
