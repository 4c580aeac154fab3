//! What `plan` says beside addresses: which realms are open as a whole, and who answers which names.

use serde::Serialize;

use super::compile::Compiled;
use crate::config::model::{Config, GrantTarget, OutsideResolver, RealmRef};

/// A grant of a whole realm.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RealmGrant {
    pub from: Vec<String>,
    pub to: String,
    pub ports: Vec<String>,
}

/// A domain that is asked for elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ForwardedDomain {
    /// ".": every name that is nobody else's.
    pub domain: String,
    /// Whose resolvers these are; `None`: they are outside.
    pub realm: Option<String>,
    /// `ADDRESS:PORT`, with `tls:NAME@` before it where they are asked by TLS.
    pub resolvers: Vec<String>,
    /// Realms that may ask; `None`: all.
    pub asked_by: Option<Vec<String>>,
}

pub fn realm_grants(config: &Config) -> Vec<RealmGrant> {
    let name = |realm: &RealmRef| config.realms[realm.0].name.clone();
    let grants = config.grants.iter().flat_map(|grant| {
        grant.to.iter().filter_map(move |target| match target {
            GrantTarget::Realm(to, ports) => Some(RealmGrant {
                from: grant.from.iter().map(name).collect(),
                to: name(to),
                ports: ports.iter().map(|port| port.to_string()).collect(),
            }),
            GrantTarget::Service(_) => None,
        })
    });
    grants.collect()
}

/// The realms' own, then those outside, in the order of the file.
pub fn forwarded_domains(config: &Config, compiled: &Compiled) -> Vec<ForwardedDomain> {
    let numbered = || config.realms.iter().zip(&compiled.realm_ids);
    let of_realms = numbered().flat_map(|(owner, id)| {
        let askers = numbered().filter(move |(_, from)| *from == id || compiled.policy.reaches_realm(**from, *id));
        let askers: Vec<String> = askers.map(|(realm, _)| realm.name.clone()).collect();
        owner.dns.iter().flat_map(|dns| dns.domains.iter().map(move |domain| (dns, domain))).map(
            move |(dns, domain)| ForwardedDomain {
                domain: domain.clone(),
                realm: Some(owner.name.clone()),
                resolvers: dns.resolvers.iter().map(|server| server.to_string()).collect(),
                asked_by: Some(askers.clone()),
            },
        )
    });
    let written = |resolver: &OutsideResolver| match &resolver.tls {
        Some(name) => format!("tls:{name}@{}", resolver.server),
        None => resolver.server.to_string(),
    };
    let outside = config.dns_forwards.iter().map(|forward| ForwardedDomain {
        domain: if forward.domain.is_empty() { ".".to_owned() } else { forward.domain.clone() },
        realm: None,
        resolvers: forward.resolvers.iter().map(written).collect(),
        asked_by: None,
    });
    of_realms.chain(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::super::allocations::Allocations;
    use super::super::plan::plan;
    use super::super::sample::Sample;
    use crate::config::model::{DnsForward, OutsideResolver, RealmDns};
    use crate::net::policy::PortRule;

    #[test]
    fn whole_realms_and_names_of_others_are_listed() {
        let sample = Sample::new()
            .realm("a", &["192.168.1.0/24"])
            .realm("b", &["192.168.2.0/24"])
            .realm("c", &["192.168.3.0/24"])
            .grant_realm(&["a"], "b", &[PortRule::Icmp, PortRule::Tcp(443..=443)]);
        let mut config = sample.build();
        config.realms[1].dns =
            Some(RealmDns { domains: vec!["b.local".into()], resolvers: vec!["192.168.2.53:53".parse().unwrap()] });
        let server = "9.9.9.9:853".parse().unwrap();
        let resolvers = vec![OutsideResolver { server, tls: Some("dns.quad9.net".into()) }];
        config.dns_forwards = vec![DnsForward { domain: String::new(), resolvers }];
        let plan = plan(&config, &Allocations::default()).unwrap();
        let text = plan.to_string();
        let want = "
Whole realms that are open
  b  icmp tcp/443  reached by a

Names that others answer
  b.local  by realm b at 192.168.2.53:53  asked by a, b
  .  outside at tls:dns.quad9.net@9.9.9.9:853  asked by every realm
";
        assert!(text.contains(want), "{text}");
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["realm_grants"][0]["to"], "b");
        assert_eq!(json["forwarded_domains"][0]["asked_by"], serde_json::json!(["a", "b"]));
        assert_eq!(json["forwarded_domains"][1]["asked_by"], serde_json::Value::Null);
    }
}
