//! The README's configs are the files of config-examples/, word for word.

use std::fs;
use std::path::Path;

#[test]
fn every_config_in_the_readme_is_a_file_of_config_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md is readable");
    let mut found = 0;
    // A config is announced by a comment that names its file.
    for block in readme.split("<!-- config-examples/").skip(1) {
        let (name, rest) = block.split_once(" -->\n```toml\n").expect("the comment stands just before its block");
        let (shown, _) = rest.split_once("```").expect("the block ends");
        let file = fs::read_to_string(root.join("config-examples").join(name)).expect("the file is there");
        assert_eq!(shown.trim_end(), file.trim_end(), "README.md shows another config-examples/{name}");
        found += 1;
    }
    assert!(found > 0, "README.md shows no config");
    assert_eq!(readme.matches("```toml").count(), found, "a config in README.md is no file of config-examples");
}
