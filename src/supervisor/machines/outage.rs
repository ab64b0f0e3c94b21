//! What has been said of something that fails for as long as it does: each reason once, and of reasons that go on changing
//! no more than a few. The status has the last one.

/// A store that answers now this way, now that, or a list that changes, is one outage.
const MOST: usize = 4;

/// One outage's reasons, as far as they were said.
#[derive(Debug, Default)]
pub struct Outage {
    said: Vec<String>,
}

impl Outage {
    /// Whether people are to be told.
    pub fn is_news(&mut self, reason: &str) -> bool {
        let news = self.said.len() < MOST && !self.said.iter().any(|said| said == reason);
        if news {
            self.said.push(reason.to_owned());
        }
        news
    }

    /// It is over; the next one is told anew.
    pub fn over(&mut self) {
        self.said.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_an_outage_and_of_many_only_a_few() {
        let mut outage = Outage::default();
        let told: Vec<bool> = ["a", "b", "a", "b"].iter().map(|reason| outage.is_news(reason)).collect();
        assert_eq!(told, [true, true, false, false]);
        assert_eq!((0..100).filter(|n| outage.is_news(&n.to_string())).count(), MOST - 2);
        outage.over();
        assert!(outage.is_news("a"));
    }
}
