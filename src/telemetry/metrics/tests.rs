use std::collections::HashSet;

use super::super::source;
use super::super::source::samples::{ipsec_realm, learned_routes, names_of_others, port_realm, three_realms};
use super::*;

#[test]
fn every_metric_has_help_a_unit_and_a_name_by_the_rules() {
    let mut names = HashSet::new();
    for metric in declarations() {
        let name = metric.name;
        assert!(names.insert(name), "{name} twice");
        assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{name}");
        assert!(name.starts_with("ixgate_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert!(name.trim_end_matches("_total").ends_with(metric.unit.suffix()), "{name}");
        if metric.unit == Unit::Flag {
            assert!(metric.help.starts_with("1 when "), "{name}");
        }
    }
}

#[test]
fn every_metric_and_every_drop_reason_is_printed() {
    let mut ports = port_realm();
    ports.names.realms[0].routes = Some(learned_routes().into());
    ports.socket.uplink = Some(Default::default());
    let text = render(&names_of_others()).unwrap() + &render(&ipsec_realm()).unwrap() + &render(&ports).unwrap();
    assert!(text.contains(",outcome=\"refused\"} 1\n"), "{text}");
    for metric in declarations() {
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
        assert!(text.contains(&format!("# TYPE {} ", metric.name)));
    }
    for reason in DropReason::ALL {
        let line = format!("ixgate_path_drops_packets_total{{reason=\"{}\",", reason.name());
        assert_eq!(text.matches(&line).count(), 3, "{}", reason.name());
    }
}

#[test]
fn values_stand_beside_their_realm_and_tunnel() {
    let text = render(&three_realms()).unwrap();
    for line in [
        "ixgate_path_received_datagrams_total 1063",
        "ixgate_path_outcome_datagrams_total{outcome=\"dropped\"} 50",
        "ixgate_realm_received_bytes_total{realm=\"region-a\"} 1500000",
        "ixgate_realm_drops_packets_total{realm=\"region-a\",reason=\"not_granted\",side=\"ours\"} 3",
        "ixgate_tunnel_up{realm=\"hospital-b\",tunnel=\"AQEBAQEB\"} 0",
        "ixgate_tunnel_mtu_bytes{realm=\"region-a\",tunnel=\"AAAAAAAA\"} 1392",
        "ixgate_tunnel_path_mtu_bytes{realm=\"region-a\",tunnel=\"AAAAAAAA\"} 1452",
        "ixgate_tunnel_last_data_age_seconds{realm=\"region-a\",tunnel=\"AAAAAAAA\"} 2.5",
        "ixgate_socket_offload{direction=\"receive\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("last_data_age_seconds{realm=\"hospital-b\""), "no data, no age");
    assert!(!text.contains("203.0.113.10"), "never an address");
}

#[test]
fn ipsec_is_counted_by_tunnel_result_and_cause() {
    let text = render(&ipsec_realm()).unwrap();
    let tunnel = "realm=\"clinic\",tunnel=\"fqdn:gw.clinic.example\"";
    for line in [
        "ixgate_ike_open_sas 2".to_owned(),
        "ixgate_ike_half_open_sas 1".to_owned(),
        format!("ixgate_ike_handshakes_total{{{tunnel},result=\"established\"}} 3"),
        format!("ixgate_ike_handshakes_total{{{tunnel},result=\"failed\"}} 1"),
        format!("ixgate_ike_rekeys_total{{{tunnel},what=\"child\"}} 9"),
        format!("ixgate_ike_kept_failures{{{tunnel},cause=\"wrong_psk\"}} 3"),
        "ixgate_ike_kept_failures{realm=\"\",tunnel=\"\",cause=\"unknown_identity\"} 3".to_owned(),
        format!("ixgate_esp_child_sas{{{tunnel}}} 1"),
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("198.51.100.7") && !text.contains("203.0.113.99"), "never an address");
}

#[test]
fn ports_are_counted_by_tunnel() {
    let text = render(&port_realm()).unwrap();
    let tunnel = "realm=\"region-a\",tunnel=\"eth1 VLAN 100\"";
    for line in [
        format!("ixgate_attachment_up{{{tunnel}}} 1"),
        format!("ixgate_attachment_carries{{{tunnel}}} 1"),
        "ixgate_attachment_carries{realm=\"hospital-b\",tunnel=\"AQEBAQEB\"} 0".to_owned(),
        "ixgate_realm_switches_total{realm=\"region-a\"} 1".to_owned(),
        format!("ixgate_port_alive_next_hops{{{tunnel}}} 1"),
        format!("ixgate_port_switches_total{{{tunnel}}} 2"),
        format!("ixgate_port_waiting_packets{{{tunnel}}} 2"),
        format!("ixgate_port_neighbour_messages_total{{{tunnel},outcome=\"handled\"}} 83"),
        format!("ixgate_port_neighbour_messages_total{{{tunnel},outcome=\"ignored\"}} 7"),
        format!("ixgate_port_conflict_events_total{{{tunnel}}} 1"),
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("172.20.0") && !text.contains("02:00"), "never an address");
}

#[test]
fn resolvers_are_summed_by_realm() {
    let text = render(&names_of_others()).unwrap();
    for line in [
        "ixgate_dns_resolver_answers_total{realm=\"\",kind=\"usable\"} 1200",
        "ixgate_dns_resolver_answers_total{realm=\"hospital-b\",kind=\"usable\"} 19",
        "ixgate_dns_resolver_answers_total{realm=\"hospital-b\",kind=\"unusable\"} 0",
        "ixgate_dns_resolver_failures_total{realm=\"hospital-b\"} 5",
        "ixgate_dns_realm_cached_answers{realm=\"region-a\"} 40",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("192.168.1.53") && !text.contains("9.9.9.9"), "never an address");
}

#[test]
fn an_appliance_without_realms_is_printed_too() {
    let mut source = three_realms();
    source.names = source::Names::default();
    let text = render(&source).unwrap();
    assert!(text.contains("ixgate_uptime_seconds 7500") && !text.contains("realm="), "{text}");
}
