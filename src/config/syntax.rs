//! Errors of TOML's syntax, with the remedy for what is written wrong most often.

use std::net::IpAddr;

use ipnet::IpNet;

use super::diagnostic::Problems;

pub fn report(error: &toml::de::Error, text: &str, problems: &mut Problems) {
    let span = error.span().filter(|s| text.get(s.clone()).is_some()).unwrap_or(0..0);
    problems
        .error(&span, error.message())
        .why("the file is not valid TOML; the rest is checked once its syntax is right")
        .remedy(remedy(error.message(), word_at(text, span.start)));
}

/// Shows of `word` only what is an address: anything else may be a secret.
fn remedy(message: &str, word: &str) -> String {
    const QUOTES: [char; 7] = ['“', '”', '„', '‟', '’', '‘', '´'];
    let bare = word.replace(QUOTES, "");
    let is_address = bare.parse::<IpNet>().is_ok() || bare.parse::<IpAddr>().is_ok();
    let quoted = if is_address { format!(": `\"{bare}\"`") } else { String::new() };
    match word {
        _ if bare != word => format!("write straight quotes around it{quoted}"),
        _ if message.starts_with("missing comma") => "write a comma between the two".to_owned(),
        _ if message.starts_with("duplicate key") => "keep one of the two".to_owned(),
        _ if message.contains("leading zero") => "write the number without zeros before it".to_owned(),
        _ if word.ends_with(':') => "write `=` between a key and its value, not `:`".to_owned(),
        "yes" | "on" => "write `true`".to_owned(),
        "no" | "off" => "write `false`".to_owned(),
        _ if message.contains("must be quoted") || is_address => format!("write it in quotes{quoted}"),
        _ => "see https://toml.io for how values, tables and strings are written".to_owned(),
    }
}

/// What stands around `at`, up to blanks, commas, brackets and plain quotes.
fn word_at(text: &str, at: usize) -> &str {
    let ends = |c: char| c.is_whitespace() || [',', '=', '{', '}', '[', ']', '"', '\'', '#'].contains(&c);
    let start = text[..at].rfind(ends).map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
    let len = text[at..].find(ends).unwrap_or(text.len() - at);
    &text[start..at + len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_what_is_between_values() {
        let text = "a = 10.0.0.0/8, “b” }";
        let word = |part: &str| word_at(text, text.find(part).unwrap());
        assert_eq!((word("0.0/"), word("b"), word("a")), ("10.0.0.0/8", "“b”", "a"));
        assert_eq!((word_at("x", 1), word_at("", 0), word_at("x ", 2)), ("x", "", ""));
    }
}
