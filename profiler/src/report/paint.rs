//! Color, where it is allowed. Text comes in, the same text or the text between two escape codes
//! leaves.

/// Paints, or does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    /// Whether escape codes are written at all.
    pub on: bool,
}

impl Paint {
    /// Headings.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What can be skipped.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What is missing or lost.
    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    /// What is in order.
    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What deserves a look.
    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}
