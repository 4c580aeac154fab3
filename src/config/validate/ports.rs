//! `tcp/443`, `udp/5000-5100`, `icmp`, `any`.

use std::ops::RangeInclusive;

use crate::config::diagnostic::Problems;
use crate::config::section::At;
use crate::net::policy::PortRule;

/// Rules of a list; `None` when one of them is wrong.
pub fn rules(list: &At<Vec<At<String>>>, problems: &mut Problems) -> Option<Vec<PortRule>> {
    let rules: Vec<_> = list.value.iter().map(|text| rule(text, problems)).collect();
    rules.into_iter().collect()
}

fn rule(text: &At<String>, problems: &mut Problems) -> Option<PortRule> {
    match parse(&text.value) {
        Ok(rule) => Some(rule),
        Err(remedy) => {
            problems
                .error(&text.span, "this is not a port rule")
                .why("a rule is `tcp/PORT`, `tcp/FIRST-LAST`, the same with `udp`, `icmp` (echo), or `any`; ports are 1 to 65535")
                .remedy(remedy);
            None
        }
    }
}

/// `Err` is the remedy.
fn parse(text: &str) -> Result<PortRule, String> {
    let lower = text.trim().to_ascii_lowercase();
    if lower != text && parse(&lower).is_ok() {
        return Err(format!("did you mean `{lower}`?"));
    }
    match text.split_once('/') {
        None if text == "any" => Ok(PortRule::Any),
        None if text == "icmp" => Ok(PortRule::Icmp),
        None if text == "tcp" || text == "udp" => Err(format!("for all ports write `{text}/1-65535`")),
        None if ports(text).is_ok() => Err(format!("write `tcp/{text}` or `udp/{text}`")),
        Some(("tcp", range)) => {
            ports(range).map(PortRule::Tcp).map_err(|r| r.map_or_else(usual, |r| format!("write `tcp/{r}`")))
        }
        Some(("udp", range)) => {
            ports(range).map(PortRule::Udp).map_err(|r| r.map_or_else(usual, |r| format!("write `udp/{r}`")))
        }
        _ => Err(usual()),
    }
}

fn usual() -> String {
    "write for example `tcp/443`, `udp/5000-5100`, `icmp` or `any`".to_owned()
}

/// `Err` may hold what was probably meant.
fn ports(text: &str) -> Result<RangeInclusive<u16>, Option<String>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first).ok_or(None)?, port(last).ok_or(None)?);
    if first > last {
        return Err(Some(format!("{last}-{first}")));
    }
    Ok(first..=last)
}

fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_rule_prints() {
        for text in ["any", "icmp", "tcp/443", "tcp/1-65535", "udp/5000-5100"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_with_a_remedy() {
        for (text, remedy) in [
            ("TCP/443", "did you mean `tcp/443`?"),
            ("tcp", "for all ports write `tcp/1-65535`"),
            ("443", "write `tcp/443` or `udp/443`"),
            ("udp/9-2", "write `udp/2-9`"),
            ("tcp/0", &usual()),
            ("tcp/65536", &usual()),
            ("tcp/+1", &usual()),
            ("tcp/", &usual()),
            ("tcp/1-", &usual()),
            ("sctp/5", &usual()),
            ("", &usual()),
        ] {
            assert_eq!(parse(text).unwrap_err(), remedy, "{text}");
        }
    }
}
