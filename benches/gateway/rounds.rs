//! One measurement: packets from A to B through the gateway for a while.

use std::time::{Duration, Instant};

use crate::bystanders::{Bystanders, Counts};
use crate::cost::{Cost, Meter};
use crate::ground::{Outcome, Side, Sink, arrived};
use crate::site::{Kind, MAX_BATCH, Site};
use crate::tally::Tally;
use crate::traffic::{Load, Source, Stamp, opening};
use crate::under_test::Running;

/// Before what is counted.
const WARM_UP: Duration = Duration::from_millis(150);
/// Packets under way at most, when as much as the gateway carries is offered: single ones fit into the kernel's queue before it
/// (`net.core.netdev_max_backlog`, 1000), runs are one each there.
const WINDOW_SINGLE: u64 = 512;
const WINDOW_RUN: u64 = 1408;
/// Segments that fit into one message of the sender; and into four.
const MESSAGE_RUN: u64 = 44;
const BATCH_RUN: u64 = 4 * MESSAGE_RUN;
const BATCH_SINGLE: u64 = 64;
/// Packets that have not come for so long are lost.
const LOST_AFTER: Duration = Duration::from_millis(30);
/// One of so many messages gets to B, is opened and verified; prime to how many sizes there are.
const OPEN_EVERY: u64 = 29;
/// Headers that each message has once, however many datagrams it carries.
const ETHERNET_IP_UDP: u64 = 14 + 20 + 8;
const LATENCY_GAP: Duration = Duration::from_micros(700);

/// What came of it.
#[derive(Clone, Default, Debug)]
pub struct Round {
    pub arrived: u64,
    /// How many came in one trip through the kernel.
    pub per_message: f64,
    pub cost: Cost,
    /// Of packets under way, in ns, in order.
    pub latencies: Vec<u32>,
}

impl Round {
    pub fn packets_per_sec(&self) -> f64 {
        self.arrived as f64 / self.cost.wall.as_secs_f64().max(1e-9)
    }

    /// The gateway's processor time, in ns.
    pub fn nanos_per_packet(&self) -> f64 {
        self.cost.total().as_nanos() as f64 / self.arrived.max(1) as f64
    }

    pub fn percentile_us(&self, percent: f64) -> f64 {
        percentile_us(&self.latencies, percent)
    }
}

pub fn percentile_us(sorted: &[u32], percent: f64) -> f64 {
    let place = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).map_or(f64::NAN, |nanos| f64::from(*nanos) / 1000.0)
}

#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// Packets per second.
    pub offered: f64,
    pub goodput: f64,
    pub counts: Option<Counts>,
}

/// Two sites with a gateway between them, and what A sends.
pub struct Track<'a> {
    pub running: &'a mut Running,
    pub sites: [Site; 2],
    pub load: Load,
    source: Source,
    epoch: Instant,
    /// Of one packet as it comes to B, on average: the payload of UDP, or a frame.
    arriving_bytes: f64,
}

impl<'a> Track<'a> {
    /// After a first packet has come out at the other end as it should.
    pub fn open(running: &'a mut Running, sites: [Site; 2], load: Load) -> Outcome<Self> {
        let source = Source::new(load);
        let mut track = Track { running, sites, load, source, epoch: Instant::now(), arriving_bytes: f64::NAN };
        if let Load::Run(_) = load {
            track.open_connection()?;
        }
        let (mut tally, period) = (Tally::opening(1), Source::period(load));
        for _ in 0..50 {
            tally = Tally::opening(1);
            track.send(period as u64)?;
            track.pause(Duration::from_millis(20), &mut tally)?;
            if tally.latencies.len() == period && tally.packets == period as u64 {
                track.arriving_bytes = tally.bytes as f64 / period as f64;
                return Ok(track);
            }
        }
        track.running.check()?;
        let words = tally.first_wrong.unwrap_or_else(|| format!("{} have come", tally.packets));
        Err(format!("no packets come out as they should: {words}").into())
    }

    fn open_connection(&mut self) -> Outcome<()> {
        for (number, packet) in opening().iter().enumerate() {
            let [a, b] = &mut self.sites;
            let (from, to) = if number == 1 { (b, a) } else { (a, b) };
            from.seal(packet)?;
            from.flush();
            let (start, mut tally) = (Instant::now(), Tally::opening(u64::MAX));
            while tally.packets == 0 {
                to.drain(&mut tally, self.epoch)?;
                if start.elapsed() > Duration::from_secs(2) {
                    return Err(format!("packet {number} of the opening of a connection does not arrive").into());
                }
            }
        }
        Ok(())
    }

    /// As much as the gateway carries: a bounded number is under way, and only half as many once some are lost.
    pub fn saturate(&mut self, duration: Duration) -> Outcome<Round> {
        let window = if matches!(self.load, Load::Run(_)) { WINDOW_RUN } else { WINDOW_SINGLE };
        self.saturate_with(window, duration)
    }

    /// The most of what it carries with few and with many under way.
    pub fn peak(&mut self, duration: Duration) -> Outcome<Round> {
        let few = self.saturate_with(WINDOW_SINGLE, duration)?;
        let many = self.saturate_with(WINDOW_RUN, duration)?;
        Ok(if many.packets_per_sec() > few.packets_per_sec() { many } else { few })
    }

    fn saturate_with(&mut self, mut window: u64, duration: Duration) -> Outcome<Round> {
        let unit = if matches!(self.load, Load::Run(_)) { MESSAGE_RUN } else { BATCH_SINGLE };
        let (mut sent, mut lost) = (0, 0);
        let mut came = (Instant::now(), 0);
        let before = self.arrived()?;
        self.round(duration, |track, now| {
            let there = track.arrived()? - before;
            let missing = sent - lost - there.min(sent - lost);
            if there > came.1 || missing == 0 {
                came = (now, there);
            } else if now - came.0 > LOST_AFTER {
                lost += missing;
                window = (window / 2).max(unit);
                came.0 = now;
            }
            let room = window.saturating_sub(missing) / unit * unit;
            if room > 0 {
                sent += track.send(room.min(BATCH_RUN))?;
            }
            Ok(())
        })
    }

    /// So many packets a second, each at its time.
    pub fn paced(&mut self, packets_per_sec: f64, duration: Duration) -> Outcome<Round> {
        let start = Instant::now();
        let (mut sent, batch) = (0, if matches!(self.load, Load::Run(_)) { MESSAGE_RUN } else { 1 });
        self.round(duration, |track, now| {
            let due = ((now - start).as_secs_f64() * packets_per_sec) as u64;
            let behind = due.saturating_sub(sent) / batch * batch;
            if behind > 0 {
                // What cannot be made up for is left out.
                let now = behind.min(BATCH_RUN.max(batch));
                track.send(now)?;
                sent += if behind > 8 * BATCH_RUN { behind } else { now };
            }
            Ok(())
        })
    }

    /// Far more than the gateway carries: as much as the sites' core can send, runs that the cable cuts into single packets. Nobody takes
    /// what comes out: it is counted at the cable's end and dropped there.
    pub fn overload(&mut self, duration: Duration, bystanders: &mut Option<Bystanders>) -> Outcome<Overload> {
        self.sites.iter_mut().try_for_each(Site::connect)?;
        if let Some(bystanders) = bystanders {
            bystanders.start(&mut self.sites[0])?;
        }
        let _sink = Sink::start(Side::B, None)?;
        let (start, mut sent, mut from) = (Instant::now(), 0, None);
        loop {
            let now = Instant::now();
            if from.is_none() && now - start > WARM_UP {
                from = Some((now, self.arrived()?, sent));
            }
            if now - start > WARM_UP + duration {
                break;
            }
            sent += self.send(MAX_BATCH as u64)?;
            if let Some(bystanders) = bystanders {
                bystanders.turn(now)?;
            }
        }
        let (since, before, sent_before) = from.ok_or("an overload without time")?;
        let (wall, came) = (since.elapsed(), self.arrived()? - before);
        self.running.check()?;
        let counts = bystanders.as_mut().map(|bystanders| bystanders.counts(start.elapsed()));
        let per_sec = |packets: u64| packets as f64 / wall.as_secs_f64();
        Ok(Overload { offered: per_sec(sent - sent_before), goodput: per_sec(came), counts })
    }

    /// Packets at B's end of the cable so far, whoever had them then.
    fn arrived(&self) -> Outcome<u64> {
        let (messages, bytes) = arrived(Side::B)?;
        let headers = if self.sites[1].kind == Kind::Frames { 0 } else { ETHERNET_IP_UDP };
        Ok((bytes.saturating_sub(messages * headers) as f64 / self.arriving_bytes) as u64)
    }

    /// One packet at a time, each when the one before has come or is lost.
    pub fn one_at_a_time(&mut self, count: usize) -> Outcome<Round> {
        let mut tally = Tally::opening(1);
        let meter = Meter::start(&self.running.processes(), None)?;
        for number in 0..count {
            let seen = tally.packets;
            self.send(1)?;
            let start = Instant::now();
            while tally.packets == seen && start.elapsed() < LOST_AFTER {
                self.sites[1].drain(&mut tally, self.epoch)?;
            }
            // Not in step with anything that has a period.
            let gap = LATENCY_GAP + Duration::from_micros((number * 7919 % 613) as u64);
            self.pause(gap, &mut tally)?;
        }
        Self::finish(tally.packets, meter.read()?, tally)
    }

    fn round(&mut self, duration: Duration, mut turn: impl FnMut(&mut Self, Instant) -> Outcome<()>) -> Outcome<Round> {
        self.sites.iter_mut().try_for_each(Site::connect)?;
        let soaker = self.running.soaker()?;
        let is_plain = self.sites[1].kind == Kind::Frames;
        // Of plain frames a packet socket has a copy before they are dropped: the sites' core is to pay for that.
        let _sink = (!is_plain).then(|| Sink::start(Side::B, Some(OPEN_EVERY))).transpose()?;
        let mut tally = Tally::opening(if is_plain { OPEN_EVERY } else { 1 });
        let start = Instant::now();
        let mut measured = None;
        let mut next_tick = start;
        loop {
            let now = Instant::now();
            if measured.is_none() && now - start > WARM_UP {
                tally.latencies.clear();
                measured = Some((
                    Meter::start(&self.running.processes(), soaker.as_ref())?,
                    self.arrived()?,
                    arrived(Side::B)?.0,
                ));
            }
            if now - start > WARM_UP + duration {
                break;
            }
            turn(self, now)?;
            self.sites[1].drain(&mut tally, self.epoch)?;
            if now >= next_tick {
                next_tick = now + Duration::from_millis(100);
                self.running.check()?;
                for site in &mut self.sites {
                    site.tick();
                }
                self.sites[0].drain(&mut Tally::opening(1), self.epoch)?;
            }
        }
        let (meter, before, messages_before) = measured.ok_or("a round without time")?;
        let cost = meter.read()?;
        let packets = self.arrived()? - before;
        let messages = arrived(Side::B)?.0 - messages_before;
        self.pause(Duration::from_millis(60), &mut tally)?;
        let round = Self::finish(packets, cost, tally)?;
        Ok(Round { per_message: packets as f64 / messages.max(1) as f64, ..round })
    }

    fn finish(arrived: u64, cost: Cost, tally: Tally) -> Outcome<Round> {
        // Probes of path and liveness are packets, too.
        if tally.wrong > 3 + tally.latencies.len() as u64 / 100 {
            let words = tally.first_wrong.unwrap_or_default();
            return Err(format!("{} of {} packets came out wrong: {words}", tally.wrong, tally.packets).into());
        }
        let mut latencies = tally.latencies;
        latencies.sort_unstable();
        Ok(Round { arrived, per_message: 1.0, cost, latencies })
    }

    fn send(&mut self, count: u64) -> Outcome<u64> {
        let mut left = count;
        let mut sent = 0;
        while left > 0 {
            let part = left.min(MAX_BATCH as u64);
            let now = Stamp::now(self.epoch);
            for _ in 0..part {
                self.sites[0].seal(self.source.next(now))?;
            }
            sent += self.sites[0].flush();
            left -= part;
        }
        Ok(sent)
    }

    /// Nothing is sent.
    fn pause(&mut self, duration: Duration, tally: &mut Tally) -> Outcome<()> {
        let start = Instant::now();
        while start.elapsed() < duration {
            self.sites[1].drain(tally, self.epoch)?;
            self.sites[0].drain(&mut Tally::opening(1), self.epoch)?;
        }
        Ok(())
    }
}
