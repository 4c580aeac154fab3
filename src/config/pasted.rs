//! Secrets that somebody pasted into the file, where they do not belong. They are refused, and until they are gone they
//! are hidden from everything that shows the file's text, also while its syntax is broken or they stand in a table that
//! is not looked into.
//!
//! They are known by the name before them, whatever they look like, and by their looks, whatever the name: 44
//! characters of base64 with `=` at the end are a WireGuard key. Only after `public_key` may one be shown.

use std::borrow::Cow;
use std::ops::Range;

use super::diagnostic::Problems;

/// How the names end under which people paste secrets, without hyphens and underscores.
const NAMES: [&str; 8] = ["privatekey", "presharedkey", "sharedkey", "psk", "ppk", "secret", "password", "passphrase"];
/// A key in base64 has 43 characters before its `=`; a little less, so that one clipped in pasting is hidden too.
const KEY_CHARS: usize = 40;

/// Whether people paste secrets under such a key.
pub fn names_a_secret(key: &str) -> bool {
    let name: String = key.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    name == "key" || NAMES.iter().any(|n| name.ends_with(n))
}

/// Masks what follows `NAME =`, and what looks like a key.
pub fn mask(text: &str, problems: &mut Problems) {
    for token in tokens(text).filter(|token| !is_public(&text[..token.start])) {
        problems.mask(token);
    }
    let mut start = 0;
    let mut rest = Rest::Nothing;
    for line in text.split_inclusive('\n') {
        let whole = start..start + line.trim_end().len();
        rest = match rest {
            Rest::Nothing => Rest::Nothing,
            Rest::NextLine if line.trim().is_empty() => Rest::NextLine,
            Rest::NextLine => {
                problems.mask(whole);
                Rest::Nothing
            }
            Rest::Until(end) => {
                problems.mask(whole);
                if line.contains(end) { Rest::Nothing } else { Rest::Until(end) }
            }
        };
        if let Some(at) = secret_value(line) {
            problems.mask(start + at..start + line.trim_end().len().max(at));
            rest = Rest::after(&line[at..]);
        }
        start += line.len();
    }
}

/// `text` for a message, with asterisks in place of what looks like a key.
pub fn conceal(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    for token in tokens(text) {
        // As many ASCII characters as before, so the later places stay right.
        let stars = "*".repeat(token.len());
        shown.to_mut().replace_range(token, &stars);
    }
    shown
}

/// Whether the path is a key, or has one at its end.
pub fn ends_in_key(path: &str) -> bool {
    let path = path.trim();
    tokens(path).last().is_some_and(|token| token.end == path.len())
}

/// Where a secret goes on after its first line.
enum Rest {
    Nothing,
    /// `NAME =`, and nothing behind it.
    NextLine,
    /// Up to the line with this in it.
    Until(&'static str),
}

impl Rest {
    /// After a line with `value` at its end.
    fn after(value: &str) -> Self {
        let value = value.trim();
        if value.is_empty() {
            return Rest::NextLine;
        }
        let open = [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]")];
        let unclosed = |(opening, closing): &(&str, &str)| {
            value.strip_prefix(opening).is_some_and(|behind| !behind.contains(closing))
        };
        open.into_iter().find(unclosed).map_or(Rest::Nothing, |(_, closing)| Rest::Until(closing))
    }
}

/// Where in `line` the value under a secret's name begins.
fn secret_value(line: &str) -> Option<usize> {
    let under_secret_name = |(at, _): &(usize, &str)| {
        let key = line[..*at].trim_end_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
        let no_key = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-';
        let key_start = key.rfind(no_key).map_or(0, |i| i + last_len(key, i));
        names_a_secret(&key[key_start..])
    };
    line.match_indices('=').find(under_secret_name).map(|(at, _)| at + 1)
}

/// Runs of base64 that end in `=` and are long enough for a key. (A longer one may be a path with a key at its end.)
fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            at += run(&bytes[at..], |b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
            let padding = run(&bytes[at..], |b| b == b'=');
            let long_enough = at - start >= KEY_CHARS;
            at += padding;
            if long_enough && padding > 0 {
                return Some(start..at);
            }
            at += usize::from(at == start);
        }
        None
    })
}

/// How many of the first `bytes` are as asked.
fn run(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|b| !wanted(*b)).unwrap_or(bytes.len())
}

/// Whether the value that begins after `before` is that of a key named exactly `public_key`.
fn is_public(before: &str) -> bool {
    const BLANK: [char; 2] = [' ', '\t'];
    const QUOTE: [char; 2] = ['"', '\''];
    let before = before.strip_suffix(QUOTE).unwrap_or(before).trim_end_matches(BLANK);
    let Some(key) = before.strip_suffix('=') else { return false };
    let key = key.trim_end_matches(BLANK);
    let key = key.strip_suffix(QUOTE).unwrap_or(key);
    key.strip_suffix("public_key")
        .is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-'))
}

/// Bytes of the character of `text` at `at`.
fn last_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

/// A name out of the file, for a message.
pub fn shortened(name: &str) -> String {
    const MOST: usize = 60;
    // Of `KEY=`, the name is the key without its end.
    let ended = format!("{name}=");
    let concealed = conceal(&ended);
    let shown = &concealed[..name.len()];
    let mut short: String = shown.chars().take(MOST).collect();
    if short.len() < shown.len() {
        short.push('…');
    }
    short
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
    #[test]
    fn knows_the_names_that_people_give_secrets() {
        for name in
            ["private-key", "wg_private_key", "pre_shared_key", "PrivateKey", "key", "psk", "ppk", "api-password"]
        {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["public_key", "private_key_file", "keepalive_secs", "psk_file", "ppk_id", "keys", ""] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn a_secret_that_goes_on_in_the_next_lines_is_hidden_to_its_end() {
        for (text, want) in [
            ("psk =\n\nhunter\nx = 1", "psk =\n\n******\nx = 1"),
            ("psk = \"\"\"a\nb\n\"\"\"\nx = 1", "psk =*****\n*\n***\nx = 1"),
            ("psk = [\"a\",\n\"b\"]\nx = 1", "psk =******\n****\nx = 1"),
            ("psk = '''a'''\nx = 1", "psk =********\nx = 1"),
            ("psk = '''a\nb = [", "psk =*****\n*****"),
        ] {
            let mut problems = Problems::default();
            mask(text, &mut problems);
            assert_eq!(problems.finish(Path::new("x"), text).source(), want);
        }
    }

    #[test]
    fn what_looks_like_a_key_is_hidden_unless_it_is_public() {
        let key = format!("{}=", "aB3+/".repeat(9).split_at(43).0);
        let stars = "*".repeat(44);
        for hidden in ["x", "public_key_", "my_public_key = \"", "my-public_key=\"", "public_key =\n\"", "# ", "é"] {
            let text = format!("{hidden} {key} {key}");
            let mut problems = Problems::default();
            mask(&text, &mut problems);
            let want = format!("{hidden} {stars} {stars}");
            assert_eq!((problems.finish(Path::new("x"), &text).source(), &*conceal(&text)), (&*want, &*want));
        }
        for shown in ["public_key = \"", "a.public_key='", "{\"public_key\"\t="] {
            let text = format!("{shown}{key}");
            let mut problems = Problems::default();
            mask(&text, &mut problems);
            assert_eq!(problems.finish(Path::new("x"), &text).source(), text);
        }
        let (short, open) = (&key[4..], &key[..43]);
        for other in [short, open, "", "==", "/a/long/path/without/any/dot/or/hyphen/in/it/at/all"] {
            assert_eq!(conceal(other), other);
        }
        assert!(ends_in_key(&key) && ends_in_key(&format!(" secrets/{}\n", &key[3..])));
        assert!(!ends_in_key(short) && !ends_in_key(&format!("{key}.key")) && !ends_in_key(""));
        assert_eq!(conceal(&format!("ü /etc/{key}: ä")), format!("ü *****{stars}: ä"));
    }
}
