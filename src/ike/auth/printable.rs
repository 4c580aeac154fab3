//! What a stranger wrote, made fit for a terminal and a log line.

use std::fmt;

/// Longer texts are cut: a certificate can carry names of many kilobytes.
const MAX_CHARS: usize = 200;

/// Shows a text of at most [`MAX_CHARS`] characters, control characters and the like escaped.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.0.chars().enumerate() {
            if count == MAX_CHARS {
                return f.write_str("…");
            }
            match hides(c) {
                true => write!(f, "{}", c.escape_unicode())?,
                false => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Control characters, and those that turn the direction of the text or take no room.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_texts_cut() {
        assert_eq!(Printable("gw\n\u{1b}[2J\u{202e}").to_string(), "gw\\u{a}\\u{1b}[2J\\u{202e}");
        assert_eq!(Printable("Zürich Clinic").to_string(), "Zürich Clinic");
        assert_eq!(Printable(&"a".repeat(5000)).to_string().chars().count(), MAX_CHARS + 1);
    }
}
