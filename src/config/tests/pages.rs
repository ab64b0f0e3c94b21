//! The configs that pages show: each is one, once what it leaves out stands beside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{good, load};

/// What a page leaves out that speaks of something else.
const REST: [(&str, &str); 3] = [
    ("[process]", "[process]\nexec = [\"a\"]\n"),
    ("[catalog]", "[catalog]\nbackend = \"local\"\ndirectory = \"/shared\"\n"),
    ("[election]", "[election]\nname = \"x\"\n"),
];

/// Every page below this folder of the repository.
fn pages(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn every_config_on_a_page_is_one() {
    let mut found = 0;
    for page in ["", "docs"].into_iter().flat_map(pages) {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let shown = block.split("```").next().unwrap();
            let rest = REST.iter().filter(|(table, _)| !shown.contains(table)).map(|(_, rest)| *rest);
            // Zone data are the machine's.
            let config = shown.replace("Europe/Berlin", "UTC") + &rest.collect::<String>();
            assert!(load(&config, "t.toml").is_ok(), "{}: {}", page.display(), load(&config, "t.toml").unwrap_err());
            found += 1;
        }
    }
    assert!(found > 4, "only {found} configs were found");
}

#[test]
fn what_a_page_leaves_out_is_a_config_by_itself() {
    good(&REST.map(|(_, rest)| rest).concat());
}
