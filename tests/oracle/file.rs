//! The world as a configuration file.

use std::fmt::Write;

use super::world::{Alias, DOMAIN, Filtering, Network, Pool, Protocol, REVERSE, Rule, Target, World};

impl World {
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "[ix]\ndomain = \"{DOMAIN}\"\n[wireguard]\nprivate_key_file = \"secrets/wireguard.key\"\n[limits]\n\
             sessions = 100_000\nsessions_per_realm = 100_000\nicmp_errors_per_sec = 100_000\n\
             dns_queries_per_sec_per_host = 1_000_000\ndns_queries_per_sec_per_realm = 1_000_000\n"
        );
        for (number, realm) in self.realms.iter().enumerate() {
            let mut networks: Vec<String> = realm.networks.iter().map(network).collect();
            networks.extend((self.default == Some(number)).then(|| "\"default\"".to_owned()));
            writeln!(text, "[[realm]]\nname = \"{}\"\nnetworks = [{}]", realm.name, networks.join(", ")).unwrap();
            if let Some(pool) = &realm.pool {
                writeln!(text, "show_as = {}", self.show_as(pool)).unwrap();
            }
            if let Some(resolver) = realm.resolver {
                let mut domains = format!("\"{}.local\"", realm.name);
                REVERSE.iter().for_each(|(zone, _)| write!(domains, ", \"{zone}\"").unwrap());
                writeln!(text, "dns = {{ domains = [{domains}], resolvers = [\"{resolver}\"] }}").unwrap();
            }
            writeln!(text, "attach = [{{ wireguard = {{ public_key = \"{{key:{}}}\" }} }}]", realm.name).unwrap();
        }
        for host in &self.hosts {
            let (name, realm) = (&host.name, &self.realms[host.realm].name);
            let addresses: Vec<String> = host.addresses.iter().map(|addr| format!("\"{addr}\"")).collect();
            let addresses = addresses.join(", ");
            writeln!(text, "[[host]]\nname = \"{name}\"\nrealm = \"{realm}\"\naddress = [{addresses}]").unwrap();
        }
        for service in &self.services {
            let host = &self.hosts[service.host];
            let (name, of, realm) = (&service.name, &host.name, &self.realms[host.realm].name);
            let ports = rules(&service.ports);
            writeln!(text, "[[service]]\nname = \"{name}\"\nhost = \"{of}.{realm}\"\nports = {ports}").unwrap();
        }
        for grant in &self.grants {
            writeln!(text, "[[grant]]\nfrom = {}", self.names(&grant.from)).unwrap();
            match &grant.to {
                Target::Service(service) => writeln!(text, "to = [\"{}\"]", self.services[*service].name),
                Target::Realm(realm, ports) => {
                    writeln!(text, "to = [\"realm:{}\"]\nports = {}", self.realms[*realm].name, rules(ports))
                }
            }
            .unwrap();
        }
        text
    }

    fn names(&self, realms: &[usize]) -> String {
        let names: Vec<String> = realms.iter().map(|realm| format!("\"{}\"", self.realms[*realm].name)).collect();
        format!("[{}]", names.join(", "))
    }

    fn show_as(&self, pool: &Pool) -> String {
        let filtering = match pool.filtering {
            Filtering::AddressAndPort => "address-and-port",
            Filtering::Address => "address",
            Filtering::Endpoint => "endpoint",
        };
        let forwards: Vec<String> = pool
            .forwards
            .iter()
            .map(|forward| {
                let protocol = if forward.protocol == Protocol::Tcp { "tcp" } else { "udp" };
                let (outside, to) = (forward.outside, std::net::SocketAddr::from(forward.to));
                format!("{{ outside = \"{}\", port = \"{protocol}/{}\", to = \"{to}\" }}", outside.0, outside.1)
            })
            .collect();
        let mut keys =
            format!("napt = [\"{}\"], filtering = \"{filtering}\", block_ports = {}", pool.text, pool.block_ports);
        if let Some(viewers) = &pool.viewers {
            write!(keys, ", for = {}", self.names(viewers)).unwrap();
        }
        if !forwards.is_empty() {
            write!(keys, ", forwards = [{}]", forwards.join(", ")).unwrap();
        }
        format!("{{ {keys} }}")
    }
}

fn network(network: &Network) -> String {
    let kind = if network.text.contains('-') { "range" } else { "prefix" };
    let mut keys = format!("{kind} = \"{}\"", network.text);
    match &network.alias {
        Alias::Unsaid => {}
        Alias::Auto => keys += ", alias = \"auto\"",
        Alias::Hosts => keys += ", alias = \"hosts\"",
        Alias::Pinned(_, text) => write!(keys, ", alias = \"{text}\"").unwrap(),
    }
    if let Some((_, text)) = &network.canonical {
        write!(keys, ", canonical = \"{text}\"").unwrap();
    }
    format!("{{ {keys} }}")
}

fn rules(rules: &[Rule]) -> String {
    let texts: Vec<String> = rules
        .iter()
        .map(|rule| match rule {
            Rule::Any => "\"any\"".to_owned(),
            Rule::Icmp => "\"icmp\"".to_owned(),
            Rule::Tcp(low, high) => format!("\"tcp/{}\"", ports(*low, *high)),
            Rule::Udp(low, high) => format!("\"udp/{}\"", ports(*low, *high)),
        })
        .collect();
    format!("[{}]", texts.join(", "))
}

fn ports(low: u16, high: u16) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}
