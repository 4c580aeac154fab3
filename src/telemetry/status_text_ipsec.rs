//! IPsec tunnels in words, for a terminal.

use std::fmt::Write;
use std::time::Duration;

use super::quantity::{count, duration};
use super::status::TunnelStatus;
use super::status_ipsec::{ChildStatus, FailureStatus, IpsecStatus};
use super::status_text::{ago, traffic};

/// Selectors of one side that are printed; beyond, it says how many are left out.
const MAX_SELECTORS_SHOWN: usize = 8;
/// The same of child SAs.
const MAX_CHILDREN_SHOWN: usize = 20;

/// Under the lines that every tunnel has.
pub fn section(tunnel: &TunnelStatus, ipsec: &IpsecStatus) -> String {
    let mut text = ike_lines(tunnel, ipsec);
    for child in ipsec.children.iter().take(MAX_CHILDREN_SHOWN) {
        text.push_str(&child_lines(child));
    }
    if ipsec.children.len() > MAX_CHILDREN_SHOWN {
        let _ = writeln!(text, "  ... {} more child SAs; see --json", ipsec.children.len() - MAX_CHILDREN_SHOWN);
    }
    text.push_str(&failure_lines("Negotiations that failed, the latest first:", &ipsec.failures));
    text
}

fn ike_lines(tunnel: &TunnelStatus, ipsec: &IpsecStatus) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "  identities       {} (ours), {} (the peer's)", ipsec.local_id, tunnel.peer);
    match (&ipsec.role, &ipsec.algorithms) {
        (Some(role), Some(algorithms)) => {
            let age = tunnel.last_handshake_secs_ago.map_or_else(|| "0 s".to_owned(), in_words);
            let rekey =
                ipsec.ike_rekey_in_secs.map_or_else(String::new, |secs| format!(", rekey in {}", in_words(secs)));
            let _ = writeln!(text, "  IKE SA           we are {role}, made {age} ago{rekey}");
            let _ = writeln!(text, "                   {algorithms}");
        }
        _ => {
            let next = match ipsec.next_attempt_in_secs {
                Some(secs) => format!("; we call again in {}", in_words(secs)),
                None => String::new(),
            };
            let _ = writeln!(text, "  IKE SA           none ({}){next}", ipsec.stage);
        }
    }
    let esp = match ipsec.esp_in_udp {
        Some(true) => "ESP in UDP",
        Some(false) => "ESP without UDP (IP protocol 50)",
        None => "no ESP yet",
    };
    let nat = if ipsec.nat { "NAT on the way, or claimed" } else { "no NAT on the way" };
    let _ = writeln!(text, "  transport        {esp}, {nat}");
    let _ = writeln!(text, "  last IKE message {}", ago(ipsec.last_heard_secs_ago));
    let counts = &ipsec.counts;
    let _ = writeln!(
        text,
        "  so far           {} IKE SAs made, {} rekeyed; {} child SAs rekeyed; {} messages sent again; {} failures",
        count(counts.established),
        count(counts.ike_rekeys),
        count(counts.child_rekeys),
        count(counts.retransmissions),
        count(counts.failures),
    );
    text
}

fn child_lines(child: &ChildStatus) -> String {
    let mut text = String::new();
    let (age, rekey) = (in_words(child.age_secs), in_words(child.rekey_in_secs));
    let _ = writeln!(
        text,
        "  child SA         SPI in {}, out {}; made {age} ago, rekey in {rekey}",
        child.spi_in, child.spi_out
    );
    let _ = writeln!(text, "                   {}", child.algorithms);
    let _ = writeln!(text, "    ours           {}", selectors(&child.ours));
    let _ = writeln!(text, "    the peer's     {}", selectors(&child.theirs));
    let _ = writeln!(text, "    received       {}", traffic(&child.received));
    let _ = writeln!(text, "    sent           {}", traffic(&child.sent));
    text
}

/// Also for those whose tunnel is not known.
pub fn failure_lines(title: &str, failures: &[FailureStatus]) -> String {
    let mut text = String::new();
    if failures.is_empty() {
        return text;
    }
    let _ = writeln!(text, "\n{title}");
    for failure in failures.iter().rev() {
        let when = in_words(failure.secs_ago);
        let times = match failure.count {
            ..=1 => String::new(),
            times => format!(", {} times in {}", count(times), in_words(failure.first_secs_ago)),
        };
        let _ = writeln!(text, "  {when} ago{times}, {}, {} ({})", failure.remote, failure.stage, failure.cause);
        let parts =
            [Some(&failure.what), failure.they_offer.as_ref(), failure.we_accept.as_ref(), failure.nearest.as_ref()];
        for part in parts.into_iter().flatten() {
            let _ = writeln!(text, "      {part}");
        }
    }
    text
}

fn selectors(list: &[String]) -> String {
    let shown = list.iter().take(MAX_SELECTORS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match list.len().saturating_sub(MAX_SELECTORS_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more (--json has all)"),
    }
}

fn in_words(secs: u64) -> String {
    duration(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::ipsec_realm;
    use super::super::status::Status;
    use super::super::status_text::{details, overview};

    fn status() -> Status {
        Status::of(&ipsec_realm(), std::time::Duration::from_secs(60))
    }

    #[test]
    fn an_ipsec_tunnel_is_told_to_its_child_sas() {
        let status = status();
        let text = details(&status, status.realm("clinic").unwrap());
        let section = text.split("\ntunnel ").nth(1).unwrap();
        assert!(
            section.starts_with(
                "\
fqdn:gw.clinic.example (IPsec): up
  peer's address   198.51.100.7:4500
  last handshake   5 min 0 s ago
  last data        1 s ago
  received         3.0 kB in 30 packets
  sent             2.0 kB in 20 packets
  identities       fqdn:ix.example (ours), fqdn:gw.clinic.example (the peer's)
  IKE SA           we are responder, made 5 min 0 s ago, rekey in 3 h 0 min
                   AES-GCM-256, PRF-HMAC-SHA-384, X25519
  transport        ESP in UDP, NAT on the way, or claimed
  last IKE message 12 s ago
  so far           3 IKE SAs made, 1 rekeyed; 9 child SAs rekeyed; 2 messages sent again; 1 failures
  child SA         SPI in c0ffee01, out 0badcafe; made 1 min 0 s ago, rekey in 50 min 0 s
                   AES-GCM-256
    ours           100.64.0.0/24, 100.64.1.0/24
    the peer's     192.168.1.0/24
    received       3.0 kB in 30 packets
    sent           2.0 kB in 20 packets

Negotiations that failed, the latest first:
  1 h 0 min ago, 3 times in 2 h 0 min, 198.51.100.7:500, authentication (IKE_AUTH) (wrong_psk)
      The peer's pre-shared key is not ours.
      Nearest: compare the two.
"
            ),
            "{section}"
        );
    }

    #[test]
    fn without_an_ike_sa_it_says_when_it_is_tried_again() {
        let mut source = ipsec_realm();
        let ipsec = source.path.tunnels[0].ipsec.as_mut().unwrap();
        (ipsec.we_called, ipsec.proposal, ipsec.stage) = (None, String::new(), "idle");
        ipsec.next_attempt_in = Some(std::time::Duration::from_secs(4));
        (ipsec.esp_in_udp, ipsec.nat) = (None, false);
        let status = Status::of(&source, std::time::Duration::ZERO);
        let text = details(&status, status.realm("clinic").unwrap());
        assert!(text.contains("  IKE SA           none (idle); we call again in 4 s\n"), "{text}");
        assert!(text.contains("  transport        no ESP yet, no NAT on the way\n"), "{text}");
    }

    #[test]
    fn many_selectors_and_child_sas_are_cut_and_say_so() {
        let mut source = ipsec_realm();
        let ipsec = source.path.tunnels[0].ipsec.as_mut().unwrap();
        ipsec.children[0].ours = (0..10).map(|i| format!("10.{i}.0.0/16")).collect();
        ipsec.children = vec![ipsec.children[0].clone(); 25];
        let status = Status::of(&source, std::time::Duration::ZERO);
        let text = details(&status, status.realm("clinic").unwrap());
        assert!(text.contains("10.7.0.0/16 and 2 more (--json has all)"), "{text}");
        assert!(text.contains("... 5 more child SAs; see --json"), "{text}");
    }

    #[test]
    fn strangers_are_told_in_the_overview() {
        let text = overview(&status());
        assert!(text.contains("IKE        2 SAs, 1 of them half-open\n"), "{text}");
        assert!(
            text.contains(
                "\nCallers that are nobody's tunnel, the latest first:\n  7 s ago, 3 times in 14 s, 203.0.113.99:500,"
            ),
            "{text}"
        );
        assert!(text.contains("      They are unknown."), "{text}");
    }
}
