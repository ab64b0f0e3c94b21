//! The nearest neighbour of a misspelt word.

/// No key is half as long. Comparing takes time and memory by the product of both lengths.
const LONGEST: usize = 64;

/// The candidate a writer most likely meant, if one is near enough to be worth saying.
pub(crate) fn nearest<S: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = S>) -> Option<S> {
    if word.len() > LONGEST {
        return None;
    }
    // A third of the letters may be wrong: enough for slips and plurals, too little to join different words.
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate.as_ref()), candidate))
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.as_ref().chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        let words = ["exec", "user", "directory", "service", "health", "watch"];
        for (slip, word) in [
            ("exce", "exec"),
            ("services", "service"),
            ("direcotry", "directory"),
            ("watches", "watch"),
            ("usr", "user"),
        ] {
            assert_eq!(nearest(slip, words), Some(word));
        }
        for stranger in ["", "x", "command", "ttl", &"exec".repeat(1 << 16)] {
            assert_eq!(nearest(stranger, words), None);
        }
    }
}
