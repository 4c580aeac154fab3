//! The demonstration: three networks with the same addresses talk by name, and only as agreed.
//!
//! The same story as `scripts/demo` tells with network namespaces; here every network is a [`Site`] in this process, on
//! its own socket ([`Loopback`]). What stands in the middle is not part of it: whoever runs the demonstration starts an
//! engine from [`CONFIG`] on a real socket, and gives its last report to [`Story::account_for`].

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::appliance::Appliance;
use super::lookup::{self, Lookup, LookupError};
use super::loopback::{Loopback, LoopbackError};
use super::packets;
use super::peer::Peer;
use super::site::{Call, Progress, Site, SiteError};
use super::story::Story;
use crate::dataplane::Report;
use crate::packet::DropReason;

/// The file of the appliance in the middle, for [`Appliance::build`].
pub const CONFIG: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "region-a"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:region-a}" } }]
[[realm]]
name = "hospital-b"
networks = [{ prefix = "192.168.1.0/24", alias = "100.64.2.0/24" }]
attach = [{ wireguard = { public_key = "{key:hospital-b}" } }]
[[realm]]
name = "clinic-c"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:clinic-c}" } }]
[[host]]
name = "archive"
realm = "hospital-b"
address = "192.168.1.20"
[[service]]
name = "pacs"
host = "archive.hospital-b"
ports = ["tcp/80"]
[[grant]]
from = ["region-a"]
to = ["pacs"]
"#;

/// In the order of the file.
const REALMS: [&str; 3] = ["region-a", "hospital-b", "clinic-c"];
const REGION_A: usize = 0;
const HOSPITAL_B: usize = 1;
const CLINIC_C: usize = 2;

const PC: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const ARCHIVE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);
/// The archive as others see it: hospital-b's pinned alias.
const ARCHIVE_ALIAS: Ipv4Addr = Ipv4Addr::new(100, 64, 2, 20);
const NAME: &str = "pacs.ix.example";
const WEB_PORT: u16 = 80;
/// Served, and granted to nobody.
const ADMIN_PORT: u16 = 8022;
const DNS_PORT: u16 = 53;
const PAGE: &str = "Hello from the picture archive of hospital-b.";
const FORGED_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

const PATIENCE: Duration = Duration::from_secs(3);
/// How long silence must last to be called so: a hundred times what an answer takes here.
const SILENCE: Duration = Duration::from_millis(700);
/// All of the above together.
pub const MAX_DURATION: Duration = Duration::from_secs(8);

const CLOSED: &str = "closed: no answer";

/// Why the demonstration could not go on. What merely goes wrong in it is a line of the [`Story`].
#[derive(Debug, thiserror::Error)]
pub enum DemonstrationError {
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    #[error("a defect of the demonstration: {0}")]
    Site(#[from] SiteError),
    #[error("a defect of the demonstration: {0}")]
    Lookup(#[from] LookupError),
}

/// Tells the story; `loopback` leads to an engine that was made from `appliance`, which comes of [`CONFIG`].
pub fn tell(appliance: &Appliance, loopback: &mut Loopback<'_>) -> Result<Story, DemonstrationError> {
    for (name, index) in REALMS.iter().zip(1..) {
        let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, index);
        let hosts = if *name == REALMS[HOSPITAL_B] { vec![PC, ARCHIVE] } else { vec![PC] };
        loopback.attach(Site::new(peer, &hosts, u64::from(index), loopback.now())?)?;
    }
    for port in [WEB_PORT, ADMIN_PORT] {
        loopback.site(HOSPITAL_B).serve(ARCHIVE, port, PAGE)?;
    }
    let mut teller = Teller { story: Story::default(), appliance, loopback };
    teller.tell_tunnels()?;
    teller.tell_addresses();
    teller.tell_names()?;
    teller.tell_page()?;
    teller.tell_closed()?;
    teller.forge_source()?;
    Ok(teller.story)
}

impl Story {
    /// The last lines: what the appliance counted, when all was over.
    pub fn account_for(&mut self, appliance: &Appliance, report: &Report) {
        let forged = DropReason::SourceNotInRealm;
        let counted = appliance.drops(report, REALMS[CLINIC_C], forged);
        let what = format!("a packet with a forged source ({FORGED_SOURCE})");
        let shown = format!("dropped; counted as {}: {counted}", forged.name());
        self.tell_shown(REALMS[CLINIC_C], &what, "1", &counted.to_string(), shown);

        let refused = REALMS.map(|realm| appliance.drops(report, realm, DropReason::NotGranted));
        let got = if refused.iter().all(|count| *count > 0) { "counted" } else { "not counted" };
        let shown = format!("dropped; counted as {}: {}", DropReason::NotGranted.name(), refused.iter().sum::<u64>());
        self.tell_shown("the IX", "what all three tried without a grant", "counted", got, shown);

        let (totals, dropped) = (report.totals, all_drops(report));
        let got = if totals.balances(dropped) { "balanced" } else { "not balanced" };
        let shown = format!(
            "{} in: {} forwarded, {} answered, {} dropped, {} handshakes and keepalives",
            totals.datagrams_in,
            totals.forwarded,
            totals.answered,
            dropped,
            totals.control + totals.keepalives
        );
        self.tell_shown("the IX", "the account of all packets", "balanced", got, shown);
    }
}

struct Teller<'a, 'l> {
    story: Story,
    appliance: &'a Appliance,
    loopback: &'a mut Loopback<'l>,
}

impl Teller<'_, '_> {
    fn tell_tunnels(&mut self) -> Result<(), DemonstrationError> {
        let all = |loopback: &mut Loopback<'_>| (0..REALMS.len()).all(|site| loopback.site(site).is_up()).then_some(());
        self.loopback.run_until(PATIENCE, all)?;
        for (site, realm) in REALMS.iter().enumerate() {
            let state = if self.loopback.site(site).is_up() { "up" } else { "down" };
            self.story.tell(realm, "the WireGuard tunnel to the IX", "up", state);
        }
        Ok(())
    }

    fn tell_addresses(&mut self) {
        for (site, realm) in REALMS.iter().enumerate() {
            let addresses = self.loopback.site(site).addresses();
            let first = addresses.first().map_or("none", String::as_str);
            self.story.tell(realm, "the address of its own pc", "192.168.1.10/24", first);
        }
    }

    fn tell_names(&mut self) -> Result<(), DemonstrationError> {
        let what = format!("look up {NAME}");
        let got = self.look_up(HOSPITAL_B)?;
        self.story.tell(REALMS[HOSPITAL_B], &what, &ARCHIVE.to_string(), &got);
        let got = self.look_up(REGION_A)?;
        self.story.tell(REALMS[REGION_A], "look up the same name", &ARCHIVE_ALIAS.to_string(), &got);
        let got = self.look_up(CLINIC_C)?;
        let denied = "no such name: No grant lets realm clinic-c reach this name.";
        self.story.tell(REALMS[CLINIC_C], "look up the same name", denied, &got);
        Ok(())
    }

    /// As a newcomer's browser would: the address by its name, then the page.
    fn tell_page(&mut self) -> Result<(), DemonstrationError> {
        let got = match self.look_up(REGION_A)?.parse() {
            Ok(address) => self.fetch(REGION_A, address, WEB_PORT, PATIENCE)?,
            Err(_) => "the name has no address".to_owned(),
        };
        self.story.tell(REALMS[REGION_A], &format!("fetch http://{NAME}/"), PAGE, &got);
        Ok(())
    }

    fn tell_closed(&mut self) -> Result<(), DemonstrationError> {
        let got = self.fetch(REGION_A, ARCHIVE_ALIAS, ADMIN_PORT, SILENCE)?;
        let what = format!("another port of the same machine ({ADMIN_PORT})");
        self.story.tell(REALMS[REGION_A], &what, CLOSED, &got);

        let got = self.fetch(CLINIC_C, ARCHIVE_ALIAS, WEB_PORT, SILENCE)?;
        self.story.tell(REALMS[CLINIC_C], &format!("the page by its address ({ARCHIVE_ALIAS})"), CLOSED, &got);

        let got = match self.appliance.seen_by(REALMS[HOSPITAL_B], REALMS[REGION_A], &PC.to_string()) {
            IpAddr::V4(address) => self.fetch(HOSPITAL_B, address, WEB_PORT, SILENCE)?,
            IpAddr::V6(_) => "no IPv4 address".to_owned(),
        };
        self.story.tell(REALMS[HOSPITAL_B], "call back to region-a's pc", CLOSED, &got);

        // Silence says that no answer came back; this says that no question came through.
        let archive = self.loopback.site(HOSPITAL_B);
        let reached =
            format!("{WEB_PORT}: {}, {ADMIN_PORT}: {}", archive.accepted(WEB_PORT), archive.accepted(ADMIN_PORT));
        let what = "connections that reached the archive, by port";
        self.story.tell(REALMS[HOSPITAL_B], what, &format!("{WEB_PORT}: 1, {ADMIN_PORT}: 0"), &reached);
        Ok(())
    }

    /// The question behind it is answered only when the forged packet has been dealt with: the socket keeps the order.
    fn forge_source(&mut self) -> Result<(), DemonstrationError> {
        let packet = packets::udp((IpAddr::V4(FORGED_SOURCE), 4000), (IpAddr::V4(ARCHIVE_ALIAS), WEB_PORT), b"forged");
        self.loopback.site(CLINIC_C).forge(&packet);
        self.look_up(CLINIC_C)?;
        Ok(())
    }

    /// What the site's pc is told when it asks the IX for [`NAME`].
    fn look_up(&mut self, site: usize) -> Result<String, DemonstrationError> {
        let id = 0x1700 + site as u16;
        let question = lookup::question(&format!("{NAME}."), id)?;
        let Some(resolver) = self.appliance.resolver_of(REALMS[site]) else { return Ok("no resolver".to_owned()) };
        let call = self.loopback.site(site).call_udp(PC, (resolver, DNS_PORT), &question)?;
        match self.wait_for(site, call, PATIENCE)? {
            Some(Progress::Answered(answer)) => Ok(words(lookup::read(&answer, id)?)),
            _ => Ok("no answer".to_owned()),
        }
    }

    fn fetch(
        &mut self,
        site: usize,
        address: Ipv4Addr,
        port: u16,
        patience: Duration,
    ) -> Result<String, DemonstrationError> {
        let request = format!("GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n");
        let call = self.loopback.site(site).call_tcp(PC, (address, port), request.as_bytes())?;
        Ok(match self.wait_for(site, call, patience)? {
            Some(Progress::Answered(answer)) => body(&answer),
            Some(_) => "refused".to_owned(),
            None => CLOSED.to_owned(),
        })
    }

    /// `None`: silence.
    fn wait_for(
        &mut self,
        site: usize,
        call: Call,
        patience: Duration,
    ) -> Result<Option<Progress>, DemonstrationError> {
        let outcome = self.loopback.run_until(patience, |loopback| {
            Some(loopback.site(site).progress(call)).filter(|progress| *progress != Progress::Waiting)
        })?;
        self.loopback.site(site).end(call);
        Ok(outcome)
    }
}

fn all_drops(report: &Report) -> u64 {
    let realms = report.realms.iter().flat_map(|realm| realm.drops);
    realms.chain(report.unattributed_drops).sum()
}

fn words(lookup: Lookup) -> String {
    match lookup {
        Lookup::Address(address) => address.to_string(),
        Lookup::NoSuchName { why: Some(why) } => format!("no such name: {why}"),
        Lookup::NoSuchName { why: None } => "no such name".to_owned(),
        Lookup::Other(words) => words,
    }
}

/// Of an HTTP response.
fn body(response: &[u8]) -> String {
    let response = String::from_utf8_lossy(response);
    response.split_once("\r\n\r\n").map_or("no HTTP response", |(_, body)| body).to_owned()
}
