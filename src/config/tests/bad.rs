//! Every kind of mistake, and the report it gets.

use super::bad;

#[test]
fn a_misspelt_key_gets_its_nearest_neighbour() {
    assert_eq!(
        bad("[process]\nexce = [\"a\"]\n", "t.toml"),
        "error: unknown key `exce`\n --> t.toml:2:1\n  |\n2 | exce = [\"a\"]\n  | ^^^^ not a key here\n  |\n  \
         = help: did you mean `exec`?\n\n1 mistake in t.toml"
    );
}
