//! One worker's engine: every datagram in, every datagram out, nothing else.

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::dns;
use crate::host::{Host, HostConfig};
use crate::ike;
use crate::nat::family::Identifications;
use crate::nat::napt::Napt;
use crate::nat::{self, Reassembler, Sessions, reassembly};
use crate::net::random::Random;
use crate::net::{LinkReport, PathReport, Port, RealmId, Timestamp, TunnelId};
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::{Batch, Datagram, Outbox};
use crate::wireguard;

use super::arrivals::Arrivals;
use super::carriers::Carriers;
use super::counters::Counters;
use super::entry::Entry;
use super::event::{Event, PortNews, What};
use super::flows::Flows;
use super::fragment::Fragmenter;
use super::icmp_report::Reporter;
use super::ingress::Ingress;
use super::local::{Egress, Local};
use super::names::Names;
use super::napt;
use super::parcel::{self, Lesson, Parcel, Sealing};
use super::police::Police;
use super::report::{Pulse, RealmReport, Report, TunnelReport, TunnelReports};
use super::snapshot::Snapshot;
use super::tunnels::Tunnels;
use super::walk::Walk;

/// Outgoing datagrams that one call may produce: as many bytes as a full receive of 32 messages of 64 KiB, twice, and the
/// largest datagrams that fragments of one batch may complete.
const OUTBOX_BYTES: usize = 8 << 20;
const OUTBOX_RUNS: usize = 4096;
/// Session entries looked at per timer tick: a million in 25 seconds.
const EXPIRE_PER_TICK: usize = 4096;
const EXPIRE_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
/// How soon a flow moves to an attachment that has come up, or from one that has said that it goes.
const CARRIERS_WITHIN: std::time::Duration = std::time::Duration::from_millis(50);

/// What an engine is made of, beyond the snapshot. Fixed for its life.
pub struct Setup {
    /// `None`: no realm is attached by WireGuard, and every handshake is refused.
    pub private_key: Option<Zeroizing<[u8; 32]>>,
    pub handshakes_per_sec: u32,
    /// `None`: no realm can be attached by IPsec.
    pub ike: Option<ike::Setup>,
    pub sessions: nat::Limits,
    pub reassembly: reassembly::Limits,
    /// NAPT bindings in all.
    pub napt_bindings: usize,
    pub host: HostConfig,
    pub dns: dns::ForwardLimits,
    /// Message ids and source ports of our own questions: an attacker must not foresee them.
    pub dns_random: Box<dyn Random + Send>,
    /// BFD's discriminators and source ports, and the keys of neighbours' tables: nobody on a link may foresee them.
    pub link_random: Box<dyn Random + Send>,
    /// Random and secret: keys the session table and the TCP sequence numbers of the IX's own stack.
    pub seed: u64,
    /// What WireGuard makes its keys from.
    pub random: wireguard::Random,
    /// The time since 1970 at [`Timestamp::ZERO`].
    pub unix_time_at_zero: std::time::Duration,
}

/// Which of the two batches walks.
#[derive(Clone, Copy)]
enum Walking {
    Packets,
    Datagram,
}

/// After any `handle_*` call, take what is in [`Engine::outbox`] (and clear it), then [`Engine::poll_event`] until
/// `None`, then read [`Engine::poll_timeout`].
pub struct Engine {
    snapshot: Arc<Snapshot>,
    carriers: Carriers,
    tunnels: Tunnels,
    flows: Flows,
    police: Police,
    sessions: Sessions,
    identifications: Identifications,
    napt: Napt,
    local: Local,
    reporter: Reporter,
    reassembler: Reassembler,
    fragmenter: Fragmenter,
    batch: Batch,
    /// For what fragments have become.
    datagram: Batch,
    outbox: Outbox,
    /// While a parcel walks: where its packets go, which are not sealed here.
    sealing: Option<Sealing>,
    counters: Counters,
    next_expiry: Timestamp,
    /// Datagrams have come since it was looked which attachments are up.
    next_look_at_carriers: Option<Timestamp>,
}

impl Engine {
    pub fn new(setup: Setup, snapshot: Arc<Snapshot>, now: Timestamp) -> Self {
        // Without a key there are no peers either, and whoever calls is an unknown one.
        let private_key = setup.private_key.unwrap_or_default();
        let wireguard = wireguard::Endpoint::new(
            &private_key,
            setup.handshakes_per_sec,
            setup.random,
            setup.unix_time_at_zero,
            now,
        );
        let mut engine = Engine {
            carriers: Carriers::new(setup.seed.rotate_left(12)),
            tunnels: Tunnels::new(wireguard, setup.ike, setup.link_random, setup.seed.rotate_left(16)),
            flows: Flows::new(setup.sessions.sessions, setup.seed.rotate_left(4)),
            police: Police::new(),
            sessions: Sessions::new(setup.sessions, setup.seed),
            identifications: Identifications::new(setup.seed.rotate_left(48)),
            napt: Napt::new(snapshot.napt.clone(), setup.napt_bindings, setup.seed.rotate_left(24)),
            local: Local::new(
                Host::new(setup.host, setup.seed.rotate_left(32), now),
                Names::new(setup.dns, setup.dns_random, setup.seed.rotate_left(56), setup.unix_time_at_zero),
            ),
            reporter: Reporter::new(),
            reassembler: Reassembler::new(setup.reassembly, setup.seed.rotate_left(40)),
            fragmenter: Fragmenter::new(setup.seed.rotate_left(8)),
            batch: Batch::default(),
            datagram: Batch::of_one_datagram(),
            outbox: Outbox::new(OUTBOX_BYTES, OUTBOX_RUNS),
            sealing: None,
            counters: Counters::new(),
            next_expiry: now,
            next_look_at_carriers: None,
            snapshot: snapshot.clone(),
        };
        engine.publish(snapshot, now);
        engine
    }

    /// Adopts a new configuration. Tunnels that did not change keep their keys; sessions are judged anew one by one.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>, now: Timestamp) {
        self.counters.resize(snapshot.realms.len(), snapshot.tunnels.len());
        let numbers = self.snapshot.tunnels.len().max(snapshot.tunnels.len()) as u32;
        for id in (0..numbers).map(TunnelId) {
            let (tunnel, before) = (snapshot.tunnel(id), self.snapshot.tunnel(id));
            let stays = matches!((tunnel, before), (Some(tunnel), Some(before)) if tunnel.is_same(before));
            if !stays || self.counters.realm_of(id).is_none() {
                self.counters.give_tunnel(id, tunnel.map(|tunnel| tunnel.realm));
            }
            if !stays && tunnel.is_some() {
                self.tunnels.forget_path(id);
            }
        }
        let mapping = &snapshot.mapping;
        self.local.host().retain_connections(|realm, address| {
            mapping.locate_canonical(address).is_some_and(|located| located.realm == realm)
        });
        let ended = self.napt.configure(snapshot.napt.clone());
        napt::end(&mut self.sessions, &ended);
        self.sessions.set_timers(snapshot.timers);
        self.tunnels.begin(now);
        self.tunnels.configure(&snapshot, now);
        self.tunnels.forget_interfaces(&self.snapshot, &snapshot, now);
        self.carriers.configure(&snapshot);
        self.flows.forget();
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.local.names.handle_publish(&before, &self.snapshot, now);
        self.drive_local(now);
        self.tunnels.handle_timeout(&mut self.outbox, now);
        self.look_at_carriers();
        self.finish(now);
    }

    /// Datagrams from the network, any number: they are walked in batches.
    pub fn handle_input<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>, now: Timestamp) {
        self.tunnels.begin(now);
        self.open_and_walk(datagrams, now);
        self.finish_input(now);
    }

    /// What a porter has received, and opened as far as it could: its outbox is then to be sealed and sent, and what is in the engine's to be
    /// sent as ever. The outbox must be empty before.
    pub fn handle_parcel(&mut self, parcel: &mut Parcel, now: Timestamp) {
        self.tunnels.begin(now);
        let Parcel { batch, outbox, opened, rest, sealing, lessons } = parcel;
        lessons.clear();
        std::mem::swap(&mut self.batch, batch);
        std::mem::swap(&mut self.outbox, outbox);
        self.sealing = Some(std::mem::take(sealing));
        self.ingress(now).take_opened(opened, lessons);
        if !self.batch.is_empty() {
            self.walk(now);
        }
        *sealing = self.sealing.take().unwrap_or_default();
        std::mem::swap(&mut self.batch, batch);
        // Sealed here, and yet behind what was opened there: of one flow some may be in either.
        if !rest.is_empty() {
            self.handle_rest(rest, lessons, now);
        }
        std::mem::swap(&mut self.outbox, outbox);
        self.finish_input(now);
    }

    /// What a porter had no key for, or not the right one. It is lent those that it could have used.
    #[cold]
    fn handle_rest(&mut self, rest: &parcel::Rest, lessons: &mut Vec<Lesson>, now: Timestamp) {
        for (datagram, tried) in rest.all() {
            match tried {
                Some(tried) if self.tunnels.is_read_as(&datagram, tried) => self.ingress(now).refuse(&datagram),
                // It may have another number than the one that was tried.
                Some(_) => self.open_and_walk(std::iter::once(datagram), now),
                None => {}
            }
        }
        let unread = rest.all().filter(|(_, tried)| tried.is_none()).map(|(datagram, _)| datagram);
        self.open_and_walk(unread, now);
        for (datagram, _) in rest.all() {
            let is_new = |number: u32| !lessons.iter().any(|lesson| lesson.is_of(datagram.path.port, number));
            if let Some((number, lent)) = self.tunnels.lend(&datagram).filter(|(number, _)| is_new(*number)) {
                lessons.push(Lesson::Lent(number, lent));
            }
        }
    }

    fn open_and_walk<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>, now: Timestamp) {
        let mut arrivals = Arrivals::default();
        let mut room = BATCH_PACKETS - self.batch.len();
        // Not `for`: sockets make datagrams by iterators within one another, which are loops within one another this way.
        datagrams.for_each(|datagram| {
            if !arrivals.push_behind(&datagram) {
                self.take_other(&mut arrivals, &datagram, now);
                room = BATCH_PACKETS - self.batch.len();
            }
            if arrivals.len() == room {
                self.open(&mut arrivals, now);
                room = BATCH_PACKETS - self.batch.len();
            }
        });
        self.open(&mut arrivals, now);
        if !self.batch.is_empty() {
            self.walk(now);
        }
    }

    /// Of another sender, or what is opened by itself, behind those before it. There must be room for it.
    #[inline(never)]
    fn take_other<'a>(&mut self, before: &mut Arrivals<'a>, datagram: &Datagram<'a>, now: Timestamp) {
        let is_frame = matches!(datagram.path.port, Port::Frames(_));
        let is_alone = !is_frame && !self.tunnels.is_data(datagram);
        if is_alone || before.are_frames() != is_frame {
            self.open(before, now);
        }
        if !is_alone {
            return before.push(datagram);
        }
        self.ingress(now).open_alone(*datagram);
        if self.batch.is_full() {
            self.walk(now);
        }
    }

    /// Then there is room for one more at least.
    fn open(&mut self, arrivals: &mut Arrivals<'_>, now: Timestamp) {
        match arrivals.are_frames() {
            true => self.ingress(now).open_frames(arrivals),
            false => self.ingress(now).open_all(arrivals),
        }
        if self.batch.is_full() {
            self.walk(now);
        }
    }

    fn finish_input(&mut self, now: Timestamp) {
        if self.carriers.has_choices() {
            self.next_look_at_carriers.get_or_insert(now + CARRIERS_WITHIN);
        }
        self.finish(now);
    }

    /// The kernel heard that a path carries no longer packets. Bounded: beyond, reports are passed over.
    pub fn handle_path_report(&mut self, report: PathReport, now: Timestamp) {
        self.tunnels.begin(now);
        self.tunnels.handle_path_report(report, &self.snapshot, now);
        self.finish(now);
    }

    /// The kernel says how an interface is that ports are on.
    pub fn handle_link(&mut self, report: LinkReport, now: Timestamp) {
        self.tunnels.begin(now);
        self.tunnels.handle_link(report, &mut self.outbox, now);
        self.look_at_carriers();
        self.finish(now);
    }

    /// Time has passed: handshakes, keepalives, expiry, retransmissions of the IX's own stack.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.tunnels.begin(now);
        self.tunnels.handle_timeout(&mut self.outbox, now);
        self.look_at_carriers();
        if now >= self.next_expiry {
            self.sessions.expire(EXPIRE_PER_TICK, now.as_secs());
            napt::release(&mut self.sessions, &mut self.napt);
            if !self.napt.is_idle() {
                self.napt.reserve();
            }
            self.next_expiry = now + EXPIRE_EVERY;
        }
        self.reassembler.handle_timeout(now);
        self.count_lost_fragments();
        self.local.handle_timeout(&self.snapshot, now);
        self.drive_local(now);
        self.finish(now);
    }

    /// What came of a question that [`Engine::poll_outside`] gave. `None`: it failed.
    pub fn handle_outside(&mut self, exchange: dns::forward::ExchangeId, bytes: Option<&[u8]>, now: Timestamp) {
        self.tunnels.begin(now);
        self.local.names.handle_reply(exchange, bytes, &self.snapshot, now);
        self.drive_local(now);
        self.finish(now);
    }

    /// Questions for resolvers outside all realms, and what is not to be waited for any more.
    pub fn poll_outside(&mut self) -> Option<dns::forward::Action> {
        self.local.names.poll_outside()
    }

    /// Before the end: tells peers that can be told (IPsec's; WireGuard has no such message). Send the outbox and call again
    /// until it says `false`.
    pub fn say_goodbye(&mut self) -> bool {
        self.tunnels.say_goodbye(&mut self.outbox)
    }

    /// Where that is into which every packet may reach somewhere else, with the room that is reserved for it: tables, and what leaves. It
    /// stays there for the engine's life.
    pub fn large_tables(&self) -> [Range<usize>; 4] {
        let [sessions, lives] = self.sessions.addresses();
        [self.flows.addresses(), sessions, lives, self.outbox.addresses()]
    }

    /// The next packet of each flow is judged and translated as if it were the first. Changes nothing of what becomes of it.
    pub fn forget_flows(&mut self) {
        self.flows.forget();
    }

    /// What is to be sent. Clear it after sending.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The kernel did not take this many datagrams with forwarded packets.
    pub fn note_unsent(&mut self, datagrams: u64) {
        self.counters.unsent(datagrams);
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.napt.poll_event() {
            let realm = Some(self.snapshot.realm_name(event.realm()));
            return Some(Event { realm, what: What::Napt(PortNews::of(event, &self.snapshot.mapping)) });
        }
        let Some(event) = self.tunnels.poll_event() else { return self.poll_switch() };
        let realm = event.tunnel().map(|tunnel| match self.realm_of(tunnel) {
            Some(realm) => self.snapshot.realm_name(realm),
            None => "(removed)".to_owned(),
        });
        Some(Event { realm, what: event })
    }

    /// After what happened to the tunnels, so that the log tells cause and effect in order.
    fn poll_switch(&mut self) -> Option<Event> {
        let switch = self.carriers.poll_switch()?;
        let names = |tunnels: &[TunnelId]| tunnels.iter().map(|tunnel| self.snapshot.tunnel_words(*tunnel)).collect();
        let (now, lost, gained) = (names(&switch.now), names(&switch.lost), names(&switch.gained));
        let realm = Some(self.snapshot.realm_name(switch.realm));
        Some(Event { realm, what: What::Switched { only: switch.only, now, lost, gained } })
    }

    /// When to call [`Engine::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let expiry = (!self.sessions.is_empty()).then_some((self.next_expiry, "session expiry"));
        let carriers = self.next_look_at_carriers.map(|at| (at, "attachments"));
        let (local, fragments) = (self.local.poll_timeout(), self.reassembler.poll_timeout());
        [self.tunnels.poll_timeout(), local, fragments, expiry, carriers].into_iter().flatten().min()
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether everything that came in is accounted for. Holds between any two calls.
    pub fn balances(&self) -> bool {
        self.counters.totals.balances(self.counters.total_drops())
    }

    pub fn report(&self, now: Timestamp) -> Report {
        Report { tunnels: self.tunnel_reports(0..usize::MAX, now).tunnels, ..self.outline(now) }
    }

    /// A report without its tunnels, of which there may be so many that packets would wait too long for them. They come in parts by
    /// [`Engine::tunnel_reports`].
    pub fn outline(&self, now: Timestamp) -> Report {
        let (ike_sas, ike_half_open) = self.tunnels.ike_sa_counts();
        Report {
            made_at: now,
            generation: self.snapshot.generation,
            totals: self.counters.totals,
            unattributed_drops: self.counters.unattributed_drops,
            realms: self.realm_reports(),
            tunnels: Vec::new(),
            strangers: self.tunnels.strangers(now),
            ike_sas,
            ike_half_open,
            dns: self.local.names.counters(),
            dns_signatures: self.local.names.signature_counts(),
            dns_now: self.local.names.gauges(now),
            dns_routes: self.local.names.routes(&self.snapshot, now),
            known_flow_packets: self.flows.hits(),
            sessions: self.sessions.len(),
            sessions_max: self.sessions.capacity(),
            napt_bindings: self.napt.len(),
            napt_bindings_max: self.napt.limit(),
            events_lost: self.tunnels.events_lost() + self.napt.events_lost(),
        }
    }

    /// The same as of a report, for next to nothing.
    pub fn pulse(&self) -> Pulse {
        let tunnels = || self.snapshot.tunnels.iter().flatten().map(|tunnel| tunnel.peer.tunnel());
        let tunnels_up = tunnels().filter(|tunnel| self.tunnels.is_up(*tunnel)).count();
        Pulse { tunnels: tunnels().count(), tunnels_up, sessions: self.sessions.len() }
    }

    fn look_at_carriers(&mut self) {
        self.next_look_at_carriers = None;
        let tunnels = &self.tunnels;
        if self.carriers.look(|tunnel, version| tunnels.is_up_for(tunnel, version)) {
            self.flows.forget();
        }
    }

    /// What the transports still have to do in this call.
    fn finish(&mut self, now: Timestamp) {
        let Engine { tunnels, outbox, counters, snapshot, .. } = self;
        tunnels.finish(outbox, |reason| counters.control_refused(reason));
        while let Some(lost) = tunnels.poll_lost() {
            counters.lost(lost.packets, lost.reason);
        }
        tunnels.watch_paths(outbox, now, |tunnel, bytes| {
            if snapshot.tunnel(tunnel).is_some() {
                counters.sent(tunnel, bytes);
                counters.totals.originated += 1;
            }
        });
    }

    fn ingress(&mut self, now: Timestamp) -> Ingress<'_> {
        let Engine { snapshot, carriers, tunnels, batch, outbox, counters, .. } = self;
        Ingress { carriers, tunnels, entry: Entry::new(snapshot, batch, outbox, counters, now) }
    }

    fn walk(&mut self, now: Timestamp) {
        self.walk_one(Walking::Packets, now);
        while let Some(whole) = self.reassembler.poll_whole(self.datagram.slot()) {
            self.counters.reassembled(whole.fragments);
            self.datagram.push(whole.tunnel, whole.realm, whole.len);
            self.datagram.packet_mut(0).0.reassembled = Some(whole.reassembled);
            self.walk_one(Walking::Datagram, now);
        }
        self.count_lost_fragments();
        // Now, not at the end of all input: the stack's queues hold more than a batch, so no realm can fill them for
        // the others.
        self.drive_local(now);
    }

    fn walk_one(&mut self, what: Walking, now: Timestamp) {
        Walk {
            snapshot: &self.snapshot,
            carriers: &self.carriers,
            tunnels: &mut self.tunnels,
            flows: &mut self.flows,
            police: &mut self.police,
            sessions: &mut self.sessions,
            identifications: &mut self.identifications,
            reassembler: &mut self.reassembler,
            fragmenter: &mut self.fragmenter,
            napt: &mut self.napt,
            host: self.local.host(),
            reporter: &mut self.reporter,
            outbox: &mut self.outbox,
            sealing: match what {
                Walking::Packets => self.sealing.as_mut(),
                Walking::Datagram => None,
            },
            counters: &mut self.counters,
            now,
        }
        .run(match what {
            Walking::Packets => &mut self.batch,
            Walking::Datagram => &mut self.datagram,
        });
    }

    fn count_lost_fragments(&mut self) {
        while let Some(loss) = self.reassembler.poll_loss() {
            self.counters.fragments_lost(loss.reason, loss.realm, loss.fragments);
        }
    }

    /// Answers what the IX itself was asked.
    fn drive_local(&mut self, now: Timestamp) {
        let Engine { local, snapshot, carriers, tunnels, fragmenter, outbox, counters, .. } = self;
        local.drive(snapshot, Egress { carriers, tunnels, fragmenter, outbox, counters }, now);
    }

    fn realm_of(&self, tunnel: TunnelId) -> Option<RealmId> {
        self.snapshot.tunnel(tunnel).map(|tunnel| tunnel.realm)
    }

    fn realm_reports(&self) -> Vec<RealmReport> {
        let numbers = (0..=u16::MAX).map(RealmId).take(self.snapshot.realms.len());
        numbers
            .zip(self.counters.realms())
            .filter(|(realm, _)| self.snapshot.realm(*realm).is_some())
            .map(|(realm, counters)| RealmReport {
                realm,
                received: counters.received,
                sent: counters.sent,
                drops: counters.drops,
                sessions: self.sessions.opened_by(realm),
                switches: self.carriers.switches_of(realm),
                dns_cached: self.local.names.cached_of(realm),
            })
            .collect()
    }

    /// Of those tunnels whose numbers are in this range.
    pub fn tunnel_reports(&self, numbers: Range<usize>, now: Timestamp) -> TunnelReports {
        let all = &self.snapshot.tunnels;
        let end = numbers.end.min(all.len());
        let tunnels = all[numbers.start.min(end)..end].iter().flatten();
        let tunnels = tunnels
            .filter_map(|tunnel| {
                let id = tunnel.peer.tunnel();
                let status = self.tunnels.status(id)?;
                let counters = self.counters.tunnel(id)?;
                Some(TunnelReport {
                    tunnel: id,
                    realm: tunnel.realm,
                    up: status.up,
                    remote: status.path.map(|path| path.remote),
                    last_handshake: status.last_handshake.map(|at| now - at),
                    last_data_received: counters.last_data_received.map(|at| now - at),
                    received: counters.received,
                    sent: counters.sent,
                    ipsec: self.tunnels.ipsec_report(id, now).map(Box::new),
                    port: self.tunnels.port_status(id).map(Box::new),
                    share: self
                        .carriers
                        .share(tunnel.realm, id, |tunnel, version| self.tunnels.is_up_for(tunnel, version)),
                    mtu: self.tunnels.mtu_report(id, now),
                })
            })
            .collect();
        TunnelReports { generation: self.snapshot.generation, tunnels, are_last: end == all.len() }
    }
}
