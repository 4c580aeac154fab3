//! Secrets that somebody pasted into the file, where they do not belong. They are refused, and until they are gone they
//! are hidden from everything that shows the file's text, also while its syntax is broken or they stand in a table that
//! is not looked into.

use super::diagnostic::Problems;

const NAMES: [&str; 7] = ["private_key", "privatekey", "preshared_key", "presharedkey", "psk", "secret", "password"];

/// Whether people paste secrets under such a key.
pub fn names_a_secret(key: &str) -> bool {
    NAMES.iter().any(|n| key.eq_ignore_ascii_case(n))
}

/// Masks, line by line, what follows `NAME =`.
pub fn mask(text: &str, problems: &mut Problems) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for (at, _) in line.match_indices('=') {
            let key = line[..at].trim_end_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
            let key_start =
                key.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |i| i + last_len(key, i));
            if names_a_secret(&key[key_start..]) {
                problems.mask(start + at + 1..start + line.trim_end().len().max(at + 1));
                break;
            }
        }
        start += line.len();
    }
}

/// Bytes of the character of `text` at `at`.
fn last_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn hides_values_under_secret_names_only() {
        let text = "private_key_file = \"a\"\nx = {ä, Private_Key = \"abc\", y = 1}\r\n[ike]\npsk=\"ü\"\n\"psk\" = 1\npskx = 2\n";
        let mut problems = Problems::default();
        mask(text, &mut problems);
        let report = problems.finish(Path::new("x"), text);
        assert_eq!(
            report.source(),
            "private_key_file = \"a\"\nx = {ä, Private_Key =**************\r\n[ike]\npsk=****\n\"psk\" =**\npskx = 2\n"
        );
    }
}
