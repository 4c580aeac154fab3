//! NAPT's part of the walk: packets to a realm's pool, hosts that are shown by one, and the packets inside ICMP errors.
//!
//! ```text
//! classify   where a pool's port leads; a source without alias is left open      arrive, leave_open
//! policy     through a binding only as the filtering admits                      admit
//!            an admitted packet's source gets its port                           show_source
//!            a filtered packet's too, and what it was sent to may answer          knock
//! translate  the quote in an ICMP error as its receiver knows it                 outside_of
//! ```

use std::net::{IpAddr, Ipv4Addr};

use crate::nat::napt::{Ended, Filtering, Inside, Napt, Proto, Remote};
use crate::nat::{Asker, Flow, Held, Pass, Sessions, Side, Ticket, Way};
use crate::net::RealmId;
use crate::net::mapping::{Located, Mapping};
use crate::net::policy::protocol;
use crate::packet::{DropReason, Meta, Shown};
use crate::wire::headers::{Transport, parse_quoted};

use super::police::grants;
use super::quoted::Quoted;
use super::snapshot::Snapshot;

/// Finds the host behind a pool's address. An ICMP error goes to whom its quote is from.
///
/// Drops: DestinationUnknown, NaptNoBinding.
pub(super) fn arrive(
    meta: &mut Meta,
    bytes: &[u8],
    address: Ipv4Addr,
    mapping: &Mapping,
    napt: &Napt,
) -> Result<(), DropReason> {
    if napt.owner(meta.realm, address).is_none() {
        return Err(DropReason::DestinationUnknown);
    }
    let is_error = meta.headers.transport == Transport::IcmpError;
    let port = if is_error { quoted_port(meta, bytes) } else { Proto::of_destination(&meta.headers.transport) };
    let (proto, port) = port.ok_or(DropReason::NaptNoBinding)?;
    let target = napt.locate(meta.realm, address, proto, port).ok_or(DropReason::NaptNoBinding)?;
    // The host may have left the realm's networks with the last configuration.
    let located = mapping.locate_canonical(target.host).filter(|at| at.realm == target.realm);
    meta.destination = located.ok_or(DropReason::NaptNoBinding)?;
    meta.shown.destination = mapping.native_of(meta.destination);
    if !is_error {
        meta.shown.destination_port = target.port;
        meta.by_binding = !target.is_forward;
    }
    Ok(())
}

fn quoted_port(meta: &Meta, bytes: &[u8]) -> Option<(Proto, u16)> {
    let quote = parse_quoted(bytes.get(meta.headers.quote())?).ok()?;
    Proto::of_source(&quote.transport)
}

/// The receiver sees the source under no alias: by its realm's pool, then, once the packet is let through.
///
/// Drops: SourceHasNoAlias, NaptPortNotServed.
pub(super) fn leave_open(meta: &Meta, napt: &Napt) -> Result<(), DropReason> {
    if !napt.shows(meta.source.realm, meta.destination.realm) {
        return Err(DropReason::SourceHasNoAlias);
    }
    let transport = &meta.headers.transport;
    if *transport != Transport::IcmpError && Proto::of_source(transport).is_none() {
        return Err(DropReason::NaptPortNotServed);
    }
    Ok(())
}

/// Is the source still open? Never of a packet whose realm has aliases.
pub(super) fn is_open(meta: &Meta) -> bool {
    meta.shown.source == Shown::NOTHING.source
}

/// Policy for a packet that came through a binding: as filtering says, and never around the grants (see
/// [`crate::nat::napt`]).
///
/// Drops: NaptFiltered, SessionTableFull, SessionQuotaExceeded.
pub(super) fn admit(
    ticket: &Ticket,
    snapshot: &Snapshot,
    sessions: &mut Sessions,
    napt: &Napt,
    now_secs: u32,
) -> Result<Pass, DropReason> {
    let Flow { source, destination, protocol, .. } = ticket.flow();
    let by_host = |opening: &Flow| opening.source == destination && grants(snapshot, opening);
    let way = sessions.way_of_opener(ticket, now_secs);
    let verdict = match way {
        Some(Way::Knock) => Err(DropReason::NaptFiltered),
        Some(Way::Met) => sessions.admit(ticket, snapshot.generation, now_secs, |opening| grants(snapshot, opening)),
        _ => sessions.admit(ticket, snapshot.generation, now_secs, by_host),
    };
    if !matches!(verdict, Err(DropReason::NotGranted | DropReason::NoSession | DropReason::NaptFiltered)) {
        return verdict;
    }
    let has_sent = || {
        let inside = inside_of(destination, protocol);
        inside.is_some_and(|inside| napt.has_sent_to(&inside, remote_of(source)))
    };
    let wider = protocol == protocol::UDP
        && match napt.filtering(destination.realm) {
            Filtering::Endpoint => true,
            Filtering::Address => has_sent(),
            Filtering::AddressAndPort => false,
        };
    if !wider || !by_host(&ticket.reversed().flow()) {
        return Err(DropReason::NaptFiltered);
    }
    if way == Some(Way::Knock) {
        sessions.forget(ticket); // the host's own session takes its place
    }
    sessions.admit(&ticket.reversed(), snapshot.generation, now_secs, by_host)
}

/// A packet that the receiver's pool filters has been sent all the same: if its sender was granted to, what it was sent to may
/// answer. Why the packet is dropped: what keeps it from being noted comes first, as it is nearer to the sender.
pub(super) fn knock(
    meta: &mut Meta,
    ticket: &Ticket,
    snapshot: &Snapshot,
    sessions: &mut Sessions,
    napt: &mut Napt,
    now_secs: u32,
) -> DropReason {
    let noted = sessions.knock(ticket, snapshot.generation, now_secs, |opening| grants(snapshot, opening));
    match noted.and_then(|()| show_source(meta, ticket, sessions, napt)) {
        Ok(()) | Err(DropReason::NotGranted | DropReason::NoSession) => DropReason::NaptFiltered,
        Err(reason) => reason,
    }
}

/// Shows the source of an admitted packet by its pool. A session whose packet cannot be shown is none.
///
/// Drops: NaptPortNotServed, NaptExhausted, NaptTableFull.
pub(super) fn show_source(
    meta: &mut Meta,
    ticket: &Ticket,
    sessions: &mut Sessions,
    napt: &mut Napt,
) -> Result<(), DropReason> {
    let Flow { source, destination, protocol, .. } = ticket.flow();
    let inside = inside_of(source, protocol).ok_or(DropReason::NaptPortNotServed)?;
    let outside = napt.bind(&inside).inspect_err(|_| sessions.forget(ticket))?;
    if sessions.hold(ticket) && !napt.hold(&inside, remote_of(destination)) {
        sessions.unhold(ticket);
    }
    meta.shown.source = IpAddr::V4(outside.address);
    meta.shown.source_port = outside.port;
    Ok(())
}

/// Bindings whose sessions have ended end too.
pub(super) fn release(sessions: &mut Sessions, napt: &mut Napt) {
    while let Some(Held { side, other, protocol }) = sessions.poll_released() {
        if let Some(inside) = inside_of(side, protocol) {
            napt.release(&inside, remote_of(other));
        }
    }
}

/// Sessions let go of bindings that a new configuration has ended.
pub(super) fn end(sessions: &mut Sessions, ended: &Ended) {
    if *ended != Ended::default() {
        sessions.forget_holds(|held| inside_of(held.side, held.protocol).is_some_and(|inside| ended.contains(&inside)));
    }
}

/// Who `viewer` means by the source of a quoted packet that reached it, and the port that it has on its own wires (0: the
/// quoted one).
pub(super) fn quoted_sender(
    viewer: RealmId,
    address: IpAddr,
    transport: &Transport,
    mapping: &Mapping,
    napt: &Napt,
) -> Option<(Located, u16)> {
    if let Some(at) = mapping.locate_seen_by(viewer, address) {
        return Some((at, 0));
    }
    let IpAddr::V4(address) = address else { return None };
    let (proto, port) = Proto::of_source(transport)?;
    let target = napt.locate(viewer, address, proto, port)?;
    let at = mapping.locate_canonical(target.host).filter(|at| at.realm == target.realm)?;
    Some((at, target.port))
}

/// The receiver of a quoted packet as its sender knows it, in the sender's IP version: address, and port (0: the flow's own).
pub(super) fn outside_of(quoted: &Quoted, mapping: &Mapping, napt: &Napt) -> Option<(IpAddr, u16)> {
    let Quoted { sender, receiver, flow, .. } = quoted;
    if let Some(address) = mapping.seen_by_like(sender.realm, *receiver, mapping.native_of(*sender)) {
        return Some((address, 0));
    }
    if !napt.shows(receiver.realm, sender.realm) {
        return None;
    }
    let outside = napt.outside_of(&inside_of(flow.destination, flow.protocol)?)?;
    // An echo has one identifier for both sides: the asker's.
    let port = if flow.asker == Asker::Source { 0 } else { outside.port };
    Some((IpAddr::V4(outside.address), port))
}

fn inside_of(side: Side, protocol: u8) -> Option<Inside> {
    let proto = match protocol {
        protocol::TCP => Proto::Tcp,
        protocol::UDP => Proto::Udp,
        protocol::ICMP | protocol::ICMPV6 => Proto::Echo,
        _ => return None,
    };
    Some(Inside { realm: side.realm, host: side.address, proto, port: side.port })
}

fn remote_of(side: Side) -> Remote {
    Remote { realm: side.realm, host: side.address }
}
