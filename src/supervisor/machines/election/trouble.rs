//! Why the store couldn't be asked, for people. That the lock can be read says nothing of whether it can be taken: where a
//! disk is full, or a key may only be read, every read goes well and nobody leads.

/// What went wrong last, and hasn't gone well since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Trouble {
    reading: Option<String>,
    writing: Option<(Write, String)>,
}

/// What is asked of a store that changes something there, in the order in which it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Write {
    /// A session is opened.
    Open,
    /// The lock is taken, kept, or given back.
    Lock,
}

impl Trouble {
    /// Something read failed; whether that is news.
    pub(super) fn read_failed(&mut self, error: String) -> bool {
        let is_news = self.reading.as_ref() != Some(&error);
        self.reading = Some(error);
        is_news
    }

    /// The same of something written.
    pub(super) fn write_failed(&mut self, write: Write, error: String) -> bool {
        let failed = Some((write, error));
        let is_news = self.writing != failed;
        self.writing = failed;
        is_news
    }

    /// The store could be read.
    pub(super) fn reads(&mut self) {
        self.reading = None;
    }

    /// The store did this, and all that comes before it.
    pub(super) fn writes(&mut self, write: Write) {
        self.reading = None;
        self.writing.take_if(|(failed, _)| *failed <= write);
    }

    /// Nothing is to be written.
    pub(super) fn writes_nothing(&mut self) {
        self.writing = None;
    }

    /// What went wrong: if anything can't be written, that is what keeps everybody from leading.
    pub(super) fn error(&self) -> Option<&str> {
        self.writing.as_ref().map(|(_, error)| error).or(self.reading.as_ref()).map(String::as_str)
    }
}
