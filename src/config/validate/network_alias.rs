//! The `alias` of a network: a word, or an IPv4 prefix with an address for each of the network.

use ipnet::{IpNet, Ipv4Net};

use super::networks::{parse_prefix, reserved4};
use crate::config::diagnostic::Problems;
use crate::config::model::{AUTO_HOST_BITS6, AliasMode};
use crate::config::section::At;
use crate::net::alias_pool::alias_len;

/// Of the prefix `native`.
pub fn alias(text: &At<String>, native: IpNet, problems: &mut Problems) -> Option<AliasMode> {
    if let Some(mode) = word(text, [native], problems) {
        return mode;
    }
    let Some(want) = alias_len(native) else {
        problems
            .error(&text.span, format!("{native} has more addresses than IPv4"))
            .why("an alias maps address for address (RFC 7757)")
            .remedy("write `alias = \"hosts\"` to show only single hosts, or name the prefix of a /96 or longer that they are in");
        return None;
    };
    if let Ok(IpNet::V6(_)) = text.value.parse() {
        report_ipv6(text, native, want, problems);
        return None;
    }
    let pinned: Ipv4Net = parse_prefix(text, &format!("100.64.2.0/{want}"), problems)?;
    if pinned.prefix_len() != want {
        report_size(text, native, pinned, want, problems);
        return None;
    }
    check_usable(text, pinned, problems).then_some(AliasMode::Pinned(pinned))
}

/// `hosts` or `auto`, for all of `natives`. `None`: it is no word; `Some(None)`: it is, and it has been refused.
pub fn word(
    text: &At<String>,
    natives: impl IntoIterator<Item = IpNet>,
    problems: &mut Problems,
) -> Option<Option<AliasMode>> {
    match text.value.as_str() {
        "hosts" => Some(Some(AliasMode::HostsOnly)),
        "auto" => {
            let host_bits = |net: &IpNet| net.max_prefix_len() - net.prefix_len();
            let too_large = |net: &IpNet| net.addr().is_ipv6() && host_bits(net) > AUTO_HOST_BITS6;
            let Some(net) = natives.into_iter().find(too_large) else { return Some(Some(AliasMode::Auto)) };
            problems
                .error(&text.span, format!("{net} is too large for an alias by itself"))
                .why(format!(
                    "an alias has an address for each of the network; IPv6 networks of at most {AUTO_HOST_BITS6} host bits \
                     (a /{}) can have that",
                    128 - AUTO_HOST_BITS6
                ))
                .remedy("write `alias = \"hosts\"` to show only single hosts, or name the smaller prefix that they are in");
            Some(None)
        }
        _ => None,
    }
}

/// Whether hosts can have addresses of `pinned`.
pub fn check_usable(text: &At<String>, pinned: Ipv4Net, problems: &mut Problems) -> bool {
    let Some(why) = reserved4(pinned) else { return true };
    problems.error(&text.span, format!("{pinned} cannot be an alias")).why(why).remedy("pin a prefix out of `alias4`");
    false
}

fn report_ipv6(text: &At<String>, native: IpNet, want: u8, problems: &mut Problems) {
    let (family, remedy) = match native {
        IpNet::V4(_) => ("IPv4", format!("pin a /{want} out of `alias4`, or remove `alias`")),
        IpNet::V6(_) => {
            ("IPv6", format!("pin an IPv4 /{want}; for the prefix that who speaks IPv6 sees, write `canonical`"))
        }
    };
    problems
        .error(&text.span, format!("the alias of an {family} network is an IPv4 prefix"))
        .why("translation into IPv6 is the canonical address, which every host has anyway")
        .remedy(remedy);
}

fn report_size(text: &At<String>, native: IpNet, pinned: Ipv4Net, want: u8, problems: &mut Problems) {
    let why = match native {
        IpNet::V4(_) => "an alias maps address for address, so both have the same length",
        IpNet::V6(_) => "an alias maps address for address, so both leave the same number of bits to hosts (RFC 7757)",
    };
    problems
        .error(
            &text.span,
            format!("the alias is a /{} and the network a /{}", pinned.prefix_len(), native.prefix_len()),
        )
        .why(why)
        .remedy(format!("pin a /{want}, or write `alias = \"hosts\"` to show only single hosts"));
}
