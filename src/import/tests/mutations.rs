//! Files with something wrong in them: whatever it is, an import ends with a config or a report.

use std::time::{Duration, Instant};

use super::*;

/// How many, unless IMPORT_MUTATIONS says so.
const MUTATIONS: u64 = 3_000;

/// xorshift64: the same files each time.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "'",
    "\\",
    "\n",
    "//",
    "/*",
    "*/",
    "{{",
    "}}",
    "{{ if .X }}",
    "{{ else }}",
    "{{ end }}",
    "{{ range loop 9 }}",
    "{{ .X }}",
    "{{ . }}",
    "{{- ",
    " -}}",
    "`",
    "null",
    "true",
    "-1",
    "1e999",
    "0x",
    "99999999999999999999",
    "\u{0}",
    "é",
    "\u{feff}",
    "{%",
    "$x := ",
    "| default",
    "{{ with .Y }}",
    "watch.",
    "name",
    "{{/*",
];

fn mutate(text: &str, others: &[(PathBuf, String)], random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.next(4) {
        let at = random.next(chars.len() + 1);
        let end = (at + random.next(30)).min(chars.len());
        match random.next(7) {
            0 => drop(chars.drain(at..end)),
            1 => {
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = random.next(chars.len() + 1);
                chars.splice(to..to, copy);
            }
            2 | 3 => {
                let piece = PIECES[random.next(PIECES.len())];
                chars.splice(at..at, piece.chars());
            }
            4 => {
                let other: Vec<char> = others[random.next(others.len())].1.chars().collect();
                let from = random.next(other.len());
                let to = (from + random.next(200)).min(other.len());
                chars.splice(at..end, other[from..to].iter().copied());
            }
            5 => chars.truncate(at),
            _ => {
                if let Some(c) = chars.get_mut(at) {
                    *c = char::from(u8::try_from(random.next(128)).unwrap());
                }
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_file_makes_an_import_panic_or_hang_or_write_what_is_no_toml() {
    let mut files = files("");
    files.extend(super::files("broken"));
    let count = std::env::var("IMPORT_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS);
    let (mut whole, mut random) = (0, Random(0x9e37_79b9_7f4a_7c15));
    for _ in 0..count {
        let index = random.next(files.len());
        let text = mutate(&files[index].1, &files, &mut random);
        #[allow(clippy::disallowed_methods)] // how long it takes is what is asked
        let begun = Instant::now();
        if let Ok(imported) = import(&text, Path::new("mutated.json5"), &BTreeMap::new()) {
            whole += 1;
            if let Err(error) = imported.toml.parse::<toml::Table>() {
                panic!("{error}\n{}\nof\n{text}", imported.toml);
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}:\n{text}", begun.elapsed());
    }
    assert!(whole > count / 20, "only {whole} of {count} could be imported");
}
