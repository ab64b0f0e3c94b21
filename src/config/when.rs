//! In which role something is done.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When something is done: always, or in one role only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum When {
    /// In every role.
    #[default]
    Always,
    /// While this container leads.
    Leader,
    /// While it doesn't.
    Replica,
}

impl When {
    /// Whether it is done in this role.
    pub fn applies(self, leads: bool) -> bool {
        match self {
            When::Always => true,
            When::Leader => leads,
            When::Replica => !leads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_role_is_done_in_it() {
        let applies = |when: When| (when.applies(true), when.applies(false));
        assert_eq!(
            [When::Always, When::Leader, When::Replica].map(applies),
            [(true, true), (true, false), (false, true)]
        );
    }
}
