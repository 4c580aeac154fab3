//! Names: DNS labels, unique where they must be, and what refers to what.

use std::collections::HashMap;

use crate::config::diagnostic::Problems;
use crate::config::pasted::conceal;
use crate::config::raw::Raw;
use crate::config::section::At;

/// The zone's own entry for the appliance inside every realm's view.
const RESERVED_REALM: &str = "ix";
/// The zone's name server.
const RESERVED_SERVICE: &str = "ns";

/// Every name of the file, for looking up references. A name that is no DNS label is still here, so that what refers to
/// it is not reported as well.
pub struct Names<'a> {
    pub realms: HashMap<&'a str, usize>,
    /// By (realm, name).
    pub hosts: HashMap<(&'a str, &'a str), usize>,
    pub services: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    pub fn new(raw: &'a Raw, problems: &mut Problems) -> Self {
        let mut names = Names { realms: HashMap::new(), hosts: HashMap::new(), services: HashMap::new() };
        for (index, realm) in raw.realms.iter().enumerate() {
            let Some(name) = &realm.name else { continue };
            label(name, "realm", problems);
            reserved(name, "realm", RESERVED_REALM, problems);
            let first = *names.realms.entry(&name.value).or_insert(index);
            unique(name, raw.realms[first].name.as_ref(), first != index, "realm", problems);
        }
        for (index, host) in raw.hosts.iter().enumerate() {
            let Some(name) = &host.name else { continue };
            label(name, "host", problems);
            let Some(realm) = &host.realm else { continue };
            let first = *names.hosts.entry((&realm.value, &name.value)).or_insert(index);
            let what = format!("host of realm `{}`", realm.value);
            unique(name, raw.hosts[first].name.as_ref(), first != index, &what, problems);
        }
        for (index, service) in raw.services.iter().enumerate() {
            let Some(name) = &service.name else { continue };
            label(name, "service", problems);
            reserved(name, "service", RESERVED_SERVICE, problems);
            let first = *names.services.entry(&name.value).or_insert(index);
            unique(name, raw.services[first].name.as_ref(), first != index, "service", problems);
        }
        names
    }
}

/// RFC 1035 section 2.3.1 as relaxed by RFC 1123 section 2.1, in lower case.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

pub fn label(name: &At<String>, what: &str, problems: &mut Problems) -> bool {
    let sound = is_label(&name.value);
    if !sound {
        let fixed = as_label(&name.value);
        // A pasted key would not be known for one any more, in lower case.
        let hint = if is_label(&fixed) && conceal(&name.value) == name.value {
            format!(", for example `{fixed}`")
        } else {
            String::new()
        };
        problems
            .error(&name.span, format!("this cannot be the name of a {what}"))
            .why("names become DNS labels: lower-case letters, digits and inner hyphens, at most 63 characters")
            .remedy(format!("use such a name{hint}"));
    }
    sound
}

/// The nearest label, as a suggestion.
fn as_label(text: &str) -> String {
    let lower = text.trim().to_ascii_lowercase();
    let mapped: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    mapped.trim_matches('-').to_owned()
}

fn reserved(name: &At<String>, what: &str, word: &str, problems: &mut Problems) {
    if name.value == word {
        problems
            .error(&name.span, format!("the {what} name `{word}` is reserved"))
            .why("the appliance itself answers under this name in every realm")
            .remedy(format!("choose another name for the {what}"));
    }
}

fn unique(name: &At<String>, first: Option<&At<String>>, duplicate: bool, what: &str, problems: &mut Problems) {
    if let (true, Some(first)) = (duplicate, first) {
        problems
            .error(&name.span, format!("a second {what} has the name `{}`", name.value))
            .why("a name stands for one thing")
            .remedy("rename one of them")
            .also(&first.span, "the first one is here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let longest = "a".repeat(63);
        for good in ["a", "region-a", "0", "xn--bcher-kva", &longest] {
            assert!(is_label(good), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &too_long] {
            assert!(!is_label(bad), "{bad}");
        }
        assert_eq!(as_label("Region A_1 "), "region-a-1");
    }
}
