//! What happened to a tunnel, in words for the log. Realms are named; addresses are those of gateways, never of hosts
//! inside a realm: but for a port block given on demand, whose purpose is to say to which host.

use std::fmt;
use std::net::IpAddr;

use crate::ike;
use crate::link;
use crate::link::endpoint::{Down, HopDown};
use crate::nat::napt::{BlockEvent, PortBlock};
use crate::net::mapping::Mapping;
use crate::net::{IpVersion, Path, TunnelId};
use crate::wireguard;

/// Prints as one sentence.
#[derive(Clone, Debug)]
pub struct Event {
    /// `None`: it is not known whose tunnel it would be.
    pub realm: Option<String>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    WireGuard(wireguard::Event),
    Ipsec(IpsecNews),
    Napt(PortNews),
    Link(link::Event),
    /// Other attachments than before carry the realm's traffic; `now` is not empty. All in words.
    Switched {
        /// `None`: all of it.
        only: Option<IpVersion>,
        now: Vec<String>,
        lost: Vec<String>,
        gained: Vec<String>,
    },
}

/// What became of ports that are given on demand: with the log it can be told who had them. Hosts are shown as their realm
/// knows them.
#[derive(Clone, Copy, Debug)]
pub enum PortNews {
    Given { host: IpAddr, block: PortBlock },
    GivenBack { host: IpAddr, block: PortBlock },
    AllGivenBack,
}

impl PortNews {
    pub(super) fn of(event: BlockEvent, mapping: &Mapping) -> Self {
        // A host that a new configuration knows no more keeps its canonical address, which has its realm in it.
        let native = |host| mapping.locate_canonical(host).map_or(host.addr().into(), |at| mapping.native_of(at));
        match event {
            BlockEvent::Given { host, block, .. } => PortNews::Given { host: native(host), block },
            BlockEvent::GivenBack { host, block, .. } => PortNews::GivenBack { host: native(host), block },
            BlockEvent::AllGivenBack { .. } => PortNews::AllGivenBack,
        }
    }
}

/// What happened to an IPsec tunnel, or to somebody who wanted one.
#[derive(Clone, Debug)]
pub enum IpsecNews {
    /// The peer proved who it is.
    Up {
        tunnel: TunnelId,
        path: Path,
        role: ike::Role,
    },
    /// There is no IKE SA with it any more.
    Down {
        tunnel: TunnelId,
        why: ike::DownReason,
    },
    /// A Child SA that replaces no other: packets can be sealed to the peer.
    ChildUp {
        tunnel: TunnelId,
        path: Path,
    },
    /// A Child SA carried as much as it may and was not renewed in time.
    Expired {
        tunnel: TunnelId,
        spi_in: u32,
    },
    /// IKE agreed on a Child SA that ESP does not take.
    NotInstalled {
        tunnel: TunnelId,
        why: String,
    },
    Moved {
        tunnel: TunnelId,
        from: Option<Path>,
        to: Path,
        moves: u32,
    },
    /// A negotiation failed. `None`: it is not known whose.
    Failed {
        tunnel: Option<TunnelId>,
        failure: Box<ike::Failure>,
    },
    /// The configuration asks for something impossible; the peer does not exist.
    Refused {
        tunnel: TunnelId,
        why: ike::event::Refusal,
    },
}

impl Event {
    /// Worth a warning rather than a note.
    pub fn is_trouble(&self) -> bool {
        use wireguard::Event::*;
        match &self.what {
            What::WireGuard(event) => matches!(event, Down { .. } | Unanswered { .. } | Refused { .. }),
            What::Ipsec(news) => {
                !matches!(news, IpsecNews::Up { .. } | IpsecNews::ChildUp { .. } | IpsecNews::Moved { .. })
            }
            What::Napt(_) => false,
            What::Link(event) => !matches!(
                event,
                link::Event::Up { .. } | link::Event::NextHopUp { .. } | link::Event::AddressClaimed { .. }
            ),
            What::Switched { lost, .. } => !lost.is_empty(),
        }
    }
}

impl What {
    /// The tunnel that it is about. `None`: it is not known which.
    pub(super) fn tunnel(&self) -> Option<TunnelId> {
        use wireguard::Event::*;
        match self {
            What::WireGuard(
                HandshakeCompleted { tunnel, .. }
                | Up { tunnel, .. }
                | Down { tunnel, .. }
                | Roamed { tunnel, .. }
                | Unanswered { tunnel, .. }
                | Refused { tunnel, .. },
            ) => Some(*tunnel),
            What::Ipsec(IpsecNews::Failed { tunnel, .. }) => *tunnel,
            What::Napt(_) | What::Switched { .. } => None,
            What::Link(
                link::Event::Up { tunnel }
                | link::Event::Down { tunnel, .. }
                | link::Event::NextHopUp { tunnel, .. }
                | link::Event::NextHopDown { tunnel, .. }
                | link::Event::DuplicateAddress { tunnel, .. }
                | link::Event::TwoAnswer { tunnel, .. }
                | link::Event::AddressClaimed { tunnel, .. },
            ) => Some(*tunnel),
            What::Ipsec(
                IpsecNews::Up { tunnel, .. }
                | IpsecNews::Down { tunnel, .. }
                | IpsecNews::ChildUp { tunnel, .. }
                | IpsecNews::Expired { tunnel, .. }
                | IpsecNews::NotInstalled { tunnel, .. }
                | IpsecNews::Moved { tunnel, .. }
                | IpsecNews::Refused { tunnel, .. },
            ) => Some(*tunnel),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.realm {
            Some(realm) => write!(f, "realm {realm}: ")?,
            None => write!(f, "unknown peer: ")?,
        }
        match &self.what {
            What::WireGuard(event) => write_wireguard(f, event),
            What::Ipsec(news) => write_ipsec(f, news),
            What::Napt(news) => write_ports(f, news),
            What::Link(event) => write_link(f, event),
            What::Switched { only, now, lost, gained } => write_switch(f, *only, now, lost, gained),
        }
    }
}

fn write_ports(f: &mut fmt::Formatter<'_>, news: &PortNews) -> fmt::Result {
    let (block, verb, host) = match news {
        PortNews::Given { host, block } => (block, "given to", host),
        PortNews::GivenBack { host, block } => (block, "given back by", host),
        PortNews::AllGivenBack => {
            return f.write_str("all ports given back: a new configuration changed or removed its pool");
        }
    };
    write!(f, "ports {}-{} of {} {verb} {host}", block.first, block.last, block.address)
}

fn write_link(f: &mut fmt::Formatter<'_>, event: &link::Event) -> fmt::Result {
    use link::Event::*;
    match *event {
        Up { .. } => f.write_str("port up"),
        Down { why, .. } => write!(f, "port down: {}", down_words(why)),
        NextHopUp { hop, .. } => write!(f, "next hop {hop} is there"),
        NextHopDown { hop, why, .. } => write!(f, "next hop {hop} is gone: {}", hop_down_words(why)),
        DuplicateAddress { address, mac, .. } => {
            write!(f, "the port's address {address} is {mac}'s, too: it is not used until they are gone")
        }
        TwoAnswer { address, known, other, .. } => {
            write!(f, "two machines answer for {address}: {known}, which goes on being used, and {other}")
        }
        AddressClaimed { address, .. } => write!(f, "the port's address {address} is ours"),
    }
}

fn down_words(why: Down) -> &'static str {
    match why {
        Down::NoLink => "the interface is down or has no carrier",
        Down::NoAddress => "none of its addresses is ours (yet)",
        Down::NoNextHop => "none of its next hops is alive",
    }
}

fn hop_down_words(why: HopDown) -> &'static str {
    match why {
        HopDown::Silent => "it does not answer",
        HopDown::BfdTimeout => "BFD hears nothing of it any more",
        HopDown::BfdRemote => "it says so by BFD",
        HopDown::Withdrawn => "it does not announce itself as a router any more, or a preferred one has its place",
    }
}

fn write_switch(
    f: &mut fmt::Formatter<'_>,
    only: Option<IpVersion>,
    now: &[String],
    lost: &[String],
    gained: &[String],
) -> fmt::Result {
    let (what, for_it) = match only {
        Some(version) => (format!("{} ", version.name()), format!(" for {}", version.name())),
        None => (String::new(), String::new()),
    };
    write!(f, "{what}carried by {} now: ", now.join(" and "))?;
    match (lost, gained) {
        ([], []) => f.write_str("the configuration says so"),
        ([], gained) => write!(f, "{} came up{for_it}", gained.join(" and ")),
        (lost, _) => write!(f, "{} went down{for_it}", lost.join(" and ")),
    }
}

fn write_wireguard(f: &mut fmt::Formatter<'_>, event: &wireguard::Event) -> fmt::Result {
    use wireguard::Event::*;
    match *event {
        HandshakeCompleted { path, role, .. } => {
            let who = if role == wireguard::Role::Initiator { "we called" } else { "the peer called" };
            write!(f, "new keys agreed with {}; {who}", path.remote)
        }
        Up { path, .. } => write!(f, "tunnel up, peer at {}", path.remote),
        Down { why, .. } => write!(f, "tunnel down: {}", why.what()),
        Roamed { from, to, moves, .. } => write_move(f, Some(from), to, moves),
        Unanswered { path, .. } => write!(f, "no answer from {} for 90 seconds; still calling", path.remote),
        Refused { why, .. } => write!(f, "the tunnel cannot be made: {}", why.what()),
    }
}

fn write_ipsec(f: &mut fmt::Formatter<'_>, news: &IpsecNews) -> fmt::Result {
    match news {
        IpsecNews::Up { path, role, .. } => {
            let who = if *role == ike::Role::Initiator { "we called" } else { "the peer called" };
            write!(f, "IKE SA with {}; {who}", path.remote)
        }
        IpsecNews::Down { why, .. } => write!(f, "IKE SA gone: {}", why.what()),
        IpsecNews::ChildUp { path, .. } => write!(f, "child SA up, peer at {}", path.remote),
        IpsecNews::Expired { spi_in, .. } => {
            write!(f, "child SA {spi_in:#010x} carried all that it may, and the peer agreed to no other in time")
        }
        IpsecNews::NotInstalled { why, .. } => write!(f, "a child SA was agreed on and cannot be used: {why}"),
        IpsecNews::Moved { from, to, moves, .. } => write_move(f, *from, *to, *moves),
        IpsecNews::Failed { failure, .. } => write!(f, "IKE failed with {failure}"),
        IpsecNews::Refused { why, .. } => write!(f, "the tunnel cannot be made: {}", why.what()),
    }
}

fn write_move(f: &mut fmt::Formatter<'_>, from: Option<Path>, to: Path, moves: u32) -> fmt::Result {
    match (from, moves) {
        (None, _) => write!(f, "the peer moved to {}", to.remote),
        (Some(from), 1) => write!(f, "the peer moved from {} to {}", from.remote, to.remote),
        (Some(from), _) => write!(f, "the peer moved {moves} times, from {} to {}", from.remote, to.remote),
    }
}
