//! What the pages say is so: their configs are the files of config-examples/, word for word; links lead somewhere;
//! commands and policies that others test are taken from here; and what names a test or a file names one that exists.

use std::fs;
use std::path::{Path, PathBuf};

/// The first line of every example.
const SCHEMA: &str = "#:schema ../pilotfish.schema.json\n";

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
        // What tells an editor the schema is of use in the file alone.
        let file = file.strip_prefix(SCHEMA).expect("the file begins with its schema");
        assert_eq!(shown.trim_end(), file.trim_end(), "README.md shows another config-examples/{name}");
        found += 1;
    }
    assert!(found > 0, "README.md shows no config");
    assert_eq!(readme.matches("```toml").count(), found, "a config in README.md is no file of config-examples");
}

/// The block behind the comment `tested: NAME`, for the tests that do what it says.
pub fn tested(name: &str) -> &'static str {
    let mark = format!("<!-- tested: {name} -->\n```");
    let (_, rest) =
        include_str!("../../docs/catalogs.md").split_once(&mark).expect("the comment stands just before its block");
    let (block, _) = rest.split_once("\n```").expect("the block ends");
    block.split_once('\n').expect("it has lines").1
}

/// Every page: the Markdown of the root, docs/, tests/ and the examples.
pub fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("config-examples")).expect("the folder is readable");
    let examples = examples.map(|entry| entry.expect("its entries are, too").path()).filter(|path| path.is_dir());
    let folders: Vec<_> = ["", "docs", "tests"].iter().map(|folder| root.join(folder)).chain(examples).collect();
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("the folder is readable"));
    let files = files.map(|entry| entry.expect("its entries are, too").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// What is said in words: a page without its blocks of code.
pub fn prose(page: &str) -> String {
    let mut inside = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The names that a page's headings can be linked by, as code hosts make them.
fn anchors(page: &str) -> Vec<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings.map(|line| line.chars().filter(kept).collect::<String>().to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn every_link_of_a_page_to_a_file_or_a_heading_leads_there() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page is readable");
        for link in prose(&text).split("](").skip(1) {
            let link = link.split(')').next().expect("split gives at least one");
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let there = match heading {
                None => target.exists(),
                Some(heading) => {
                    fs::read_to_string(&target).is_ok_and(|text| anchors(&text).iter().any(|one| one == heading))
                }
            };
            if !there {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(links > 20, "only {links} links were found");
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

/// Every file below a directory, as one text.
fn text_of(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).expect("the directory is readable") {
        let path = entry.expect("its entries are, too").path();
        if path.is_dir() {
            text += &text_of(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("a source file is readable");
        }
    }
    text
}

#[test]
fn the_files_and_tests_that_a_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = text_of(&root.join("src")) + &text_of(&root.join("tests"));
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let (mut wrong, mut names) = (Vec::new(), 0);
    for page in pages() {
        let page = page.strip_prefix(root).expect("it is below");
        let is_for_contributors =
            ["docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"].map(Path::new).contains(&page);
        // Elsewhere metrics and other programs' settings are of several words, too.
        let fewest = if is_for_contributors { 3 } else { 5 };
        let text = fs::read_to_string(root.join(page)).expect("the page is readable");
        for name in prose(&text).split('`').skip(1).step_by(2) {
            let folder = name.split_once('/').map(|(folder, _)| folder);
            // A path is a file, unless a word in it stands for others; and long words joined by underscores are a test.
            let there = if ["src", "tests", "docs"].map(Some).contains(&folder) && !name.contains("NAME") {
                !name.chars().all(of_a_path) || root.join(name).exists()
            } else if name.matches('_').count() >= fewest
                && !name.starts_with("pilotfish_")
                && name.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
            {
                code.contains(&format!("fn {name}("))
            } else {
                continue;
            };
            names += 1;
            if !there {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(names > 100, "only {names} names were found");
    assert!(wrong.is_empty(), "there is no such file or test:\n{}", wrong.join("\n"));
}

#[test]
fn what_the_endpoints_answer_is_on_the_page_of_commands() {
    let page = include_str!("../../docs/commands.md");
    let routes = include_str!("../../src/endpoints/routes.rs");
    let quoted = routes.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/') && !text.contains(' '));
    let routes: std::collections::BTreeSet<&str> = quoted.collect();
    assert!(routes.len() > 15, "{routes:?}");
    let is_named = |route: &&str| ["`", "?"].iter().any(|end| page.contains(&format!("`{route}{end}")));
    let missing: Vec<&&str> = routes.iter().filter(|route| !is_named(route)).collect();
    assert!(missing.is_empty(), "docs/commands.md says nothing of {missing:?}");
}

#[test]
fn every_rule_of_the_election_is_in_its_document_with_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/election.md")).expect("docs/election.md is readable");
    let rules =
        fs::read_to_string(root.join("src/supervisor/machines/election/rules.rs")).expect("rules.rs is readable");
    let (_, rules) = rules.split_once("pub enum Rule {").expect("the rules are an enum");
    let (rules, _) = rules.split_once('}').expect("that ends");
    let rules: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let rules: Vec<&str> = rules.into_iter().filter(|rule| rule.chars().all(char::is_alphanumeric)).collect();
    assert!(rules.len() >= 20, "{rules:?}");
    let (_, chapter) = document.split_once("## The seventeen rules").expect("the document has the rules");
    for rule in &rules {
        assert!(chapter.contains(&format!("`Rule::{rule}`")), "docs/election.md doesn't name the rule {rule}");
    }
    let code = text_of(&root.join("src")) + &text_of(&root.join("tests"));
    for name in chapter.split('`').skip(1).step_by(2) {
        match name.strip_prefix("Rule::") {
            Some(rule) => assert!(rules.contains(&rule), "there is no rule {rule}"),
            // A path is a file, and long words joined by underscores are a test.
            None if name.matches('_').count() > 3 => {
                assert!(code.contains(&format!("fn {name}()")), "there is no test {name}");
            }
            None => {}
        }
    }
}

#[test]
fn every_promise_of_security_has_tests_that_exist_and_every_file_that_opens_something_is_in_its_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/security.md")).expect("docs/security.md is readable");
    let code = text_of(&root.join("src")) + &text_of(&root.join("tests"));
    let names: Vec<&str> = document.split('`').skip(1).step_by(2).collect();
    // Names of tests have more than three underscores; variables, with capitals, are none.
    let is_test = |name: &&&str| {
        name.matches('_').count() > 3 && name.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    for name in names.iter().filter(is_test) {
        assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
    }
    let (_, promises) = document.split_once("## Promised").expect("the document says what is promised");
    let (promises, _) = promises.split_once("## Not promised").expect("and what isn't");
    for line in promises.lines().filter(|line| line.starts_with("| ") && !line.contains("---")).skip(1) {
        assert!(line.split('`').skip(1).step_by(2).any(|name| is_test(&&name)), "no test keeps this: {line}");
    }
    for file in names.iter().filter(|name| name.starts_with("src/") && name.ends_with(".rs")) {
        assert!(root.join(file).is_file(), "there is no {file}");
    }
    let mut missing = Vec::new();
    for file in files_of(&root.join("src")) {
        let name = file.strip_prefix(root).expect("it is below").to_str().expect("UTF-8").to_owned();
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let text = text.split("#[cfg(test)]\n").next().unwrap_or_default();
        let opens = |line: &str| !line.trim_start().starts_with("//") && OPENS.iter().any(|call| line.contains(call));
        // Nothing of these is in a release.
        let released = !name.contains("/tests") && !name.starts_with("src/generated");
        if released && text.lines().any(opens) && !names.contains(&name.as_str()) {
            missing.push(name);
        }
    }
    assert_eq!(missing, [""; 0], "docs/security.md has nothing of what these open");
}

/// What opens, makes, removes or changes something by a path.
const OPENS: [&str; 20] = [
    "fs::read",
    "fs::write",
    "fs::metadata",
    "fs::symlink_metadata",
    "fs::remove",
    "fs::rename",
    "fs::set_permissions",
    "fs::exists",
    "File::open",
    "File::create",
    "OpenOptions::new",
    "File::options",
    "DirBuilder::new",
    "openat(",
    "libc::open(",
    "unlinkat(",
    "renameat",
    "mkdirat(",
    "UnixAddr::new",
    "UnixStream::connect",
];

fn files_of(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is readable").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_of(&path) } else { vec![path] }).collect()
}
