//! Names that others answer, in words, for a terminal.

use std::fmt::Write;
use std::time::Duration;

use super::quantity::{count, duration};
use super::status::{RealmStatus, Status};
use super::status_dns::{DnsStatus, ResolverStatus};
use super::status_text::ago;

/// Of one list that are printed; beyond, it says how many are left out.
const MAX_SHOWN: usize = 20;

/// Of the appliance: what lies outside all realms, and whose resolvers do not answer.
pub fn overview(status: &Status) -> String {
    let mut text = String::new();
    for dns in &status.dns_outside {
        text.push_str(&section("names outside all realms", dns));
    }
    let of_realm = |realm: &RealmStatus| -> Vec<String> {
        let troubled = realm.dns.iter().flat_map(|dns| &dns.resolvers).filter(|resolver| resolver.state.is_trouble());
        troubled.map(|resolver| format!("  {} {}\n", realm.name, resolver_words(resolver))).collect()
    };
    let troubled: Vec<String> = status.realms.iter().flat_map(of_realm).collect();
    if !troubled.is_empty() {
        text.push_str("\nResolvers of realms that do not answer as they should:\n");
        text.extend(troubled.iter().take(MAX_SHOWN).map(String::as_str));
    }
    if troubled.len() > MAX_SHOWN {
        let _ = writeln!(text, "  ... {} more; see --json", troubled.len() - MAX_SHOWN);
    }
    text
}

/// Of one realm: its own names. Nothing where it has none.
pub fn details(realm: &RealmStatus) -> String {
    realm.dns.as_ref().map_or_else(String::new, |dns| section("names of its own", dns))
}

fn section(title: &str, dns: &DnsStatus) -> String {
    let shown: Vec<&str> = dns.domains.iter().take(MAX_SHOWN).map(String::as_str).collect();
    let more = match dns.domains.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut text = format!("\n{title}: {}{more}\n", shown.join(", "));
    for resolver in &dns.resolvers {
        let _ = writeln!(text, "  resolver {}", resolver_words(resolver));
    }
    text
}

fn resolver_words(resolver: &ResolverStatus) -> String {
    let tls = resolver.tls.as_ref().map_or_else(String::new, |name| format!(" by TLS as {name}"));
    let mut text = format!("{}{tls}: {}", resolver.address, resolver.state.words());
    if let Some(secs) = resolver.asked_last_for_secs {
        let _ = write!(text, ", asked last for {}", duration(Duration::from_secs(secs)));
    }
    let (answers, failures) = (count(resolver.answers), count(resolver.failures));
    let _ = write!(text, "; last answer {}, {answers} in all", ago(resolver.last_answer_secs_ago));
    let _ = write!(text, "; {failures} questions unanswered, {} refused or failed", count(resolver.unusable));
    text
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::names_of_others;
    use super::*;

    fn status() -> Status {
        Status::of(&names_of_others(), Duration::from_secs(60))
    }

    #[test]
    fn the_overview_tells_what_is_asked_outside_and_who_does_not_answer() {
        let expected = "
names outside all realms: ., example.org
  resolver 9.9.9.9:853 by TLS as dns.quad9.net: up; last answer 4 s ago, 1,200 in all; 3 questions unanswered, 0 refused or failed
  resolver [2620:fe::fe]:53: not asked yet; last answer never, 0 in all; 0 questions unanswered, 0 refused or failed

Resolvers of realms that do not answer as they should:
  hospital-b 192.168.1.54:53: down, does not answer, asked last for 9 s; last answer 2 min 0 s ago, 7 in all; 5 questions unanswered, 0 refused or failed
";
        assert_eq!(overview(&status()), expected);
    }

    #[test]
    fn a_realm_has_its_domains_and_all_its_resolvers() {
        let status = status();
        let text = details(status.realm("hospital-b").unwrap());
        assert!(
            text.starts_with("\nnames of its own: 1.168.192.in-addr.arpa, b.local\n  resolver 192.168.1.53:53: up;")
        );
        assert_eq!(text.lines().count(), 4);
        assert_eq!(details(status.realm("region-a").unwrap()), "");
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let mut status = status();
        let dns = status.realms[1].dns.as_mut().unwrap();
        dns.domains = (0..MAX_SHOWN + 3).map(|n| format!("d{n}.local")).collect();
        dns.resolvers = vec![dns.resolvers[1].clone(); MAX_SHOWN + 2];
        assert!(details(&status.realms[1]).contains("d19.local and 3 more\n"));
        assert!(overview(&status).ends_with("  ... 2 more; see --json\n"));
    }
}
